"""Signing in: keys of tokens, what was issued and what was taken back, sessions of browsers."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SCHEMA = "tempomesh"


def upgrade() -> None:
    op.add_column(
        "identities",
        sa.Column("is_administrator", sa.Boolean(), server_default=sa.false(), nullable=False),
        schema=_SCHEMA,
    )
    op.add_column(
        "identities",
        sa.Column("password_is_one_time", sa.Boolean(), server_default=sa.false(), nullable=False),
        schema=_SCHEMA,
    )
    op.add_column(
        "identities",
        sa.Column("token_generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "external_accounts",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("identity_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_external_accounts"),
        sa.UniqueConstraint("identity_id", "issuer", name="uq_external_accounts_identity_id"),
        _identity("external_accounts"),
        schema=_SCHEMA,
    )
    op.create_table(
        "signing_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("sealed_private_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_signing_keys"),
        schema=_SCHEMA,
    )
    op.create_table(
        "sign_ins",
        sa.Column("sign_in_id", sa.Text(), nullable=False),
        sa.Column("identity_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("token_generation", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("sign_in_id", name="pk_sign_ins"),
        _identity("sign_ins"),
        schema=_SCHEMA,
    )
    op.create_index("ix_sign_ins_identity_id", "sign_ins", ["identity_id"], schema=_SCHEMA)
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("sign_in_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("token_hash", name="pk_refresh_tokens"),
        sa.ForeignKeyConstraint(
            ["sign_in_id"], [f"{_SCHEMA}.sign_ins.sign_in_id"], name="fk_refresh_tokens_sign_in_id", ondelete="CASCADE"
        ),
        schema=_SCHEMA,
    )
    op.create_index("ix_refresh_tokens_sign_in_id", "refresh_tokens", ["sign_in_id"], schema=_SCHEMA)
    op.create_table(
        "revoked_tokens",
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name="pk_revoked_tokens"),
        schema=_SCHEMA,
    )
    op.create_table(
        "authorization_codes",
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("identity_id", sa.Text(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("code_challenge", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text()),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sign_in_id", sa.Text()),
        sa.PrimaryKeyConstraint("code_hash", name="pk_authorization_codes"),
        _identity("authorization_codes"),
        schema=_SCHEMA,
    )
    op.create_table(
        "device_codes",
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("user_code", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("identity_id", sa.Text()),
        sa.Column("denied_at", sa.DateTime(timezone=True)),
        sa.Column("polled_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("code_hash", name="pk_device_codes"),
        sa.UniqueConstraint("user_code", name="uq_device_codes_user_code"),
        _identity("device_codes"),
        schema=_SCHEMA,
    )
    op.create_table(
        "browser_sessions",
        sa.Column("session_hash", sa.Text(), nullable=False),
        sa.Column("identity_id", sa.Text(), nullable=False),
        sa.Column("token_generation", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("session_hash", name="pk_browser_sessions"),
        _identity("browser_sessions"),
        schema=_SCHEMA,
    )


def _identity(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["identity_id"], [f"{_SCHEMA}.identities.identity_id"], name=f"fk_{table}_identity_id", ondelete="CASCADE"
    )
