"""Identities, which are the same in every project, and what each is granted in one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identities",
        sa.Column("identity_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text()),
        sa.Column("secret_hash", sa.Text()),
        sa.Column("password_hash", sa.Text()),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("identity_id", name="pk_identities"),
        sa.UniqueConstraint("secret_hash", name="uq_identities_secret_hash"),
        schema="tempomesh",
    )
    op.create_table(
        "grants",
        sa.Column("grant_id", sa.Text(), server_default=sa.text("gen_random_uuid()::text"), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("identity_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text()),
        sa.Column("actions", _list(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("environments", _list(), server_default=sa.text("""'["*"]'::jsonb"""), nullable=False),
        sa.Column("models", _list(), server_default=sa.text("""'["*"]'::jsonb"""), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("grant_id", name="pk_grants"),
        sa.ForeignKeyConstraint(
            ["identity_id"], ["tempomesh.identities.identity_id"], name="fk_grants_identity_id", ondelete="CASCADE"
        ),
        schema="tempomesh",
    )
    op.create_index("ix_grants_identity_id_project", "grants", ["identity_id", "project"], schema="tempomesh")
    # One secret had one client in each project; the newest is believed where projects disagree.
    op.execute(
        """
        INSERT INTO tempomesh.identities (identity_id, kind, secret_hash, created_by, created_at)
        SELECT DISTINCT ON (client_id) client_id, 'service', secret_hash, 'settings', created_at
        FROM (
            SELECT DISTINCT ON (secret_hash) * FROM tempomesh.clients ORDER BY secret_hash, created_at DESC
        ) AS secrets
        ORDER BY client_id, created_at DESC
        """
    )
    op.execute(
        """
        INSERT INTO tempomesh.grants (project, identity_id, role, created_by)
        SELECT project, client_id, role, 'settings' FROM tempomesh.clients
        WHERE client_id IN (SELECT identity_id FROM tempomesh.identities)
        """
    )
    op.drop_table("clients", schema="tempomesh")


def _list() -> sa.types.TypeEngine[object]:
    return postgresql.JSONB(astext_type=sa.Text())
