"""The tables of signing in. Codes, tokens and sessions are kept as hashes of random texts, private keys sealed."""

from sqlalchemy import Column, DateTime, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, text

from server.schema import SCHEMA, metadata

__all__ = [
    "authorization_codes",
    "browser_sessions",
    "device_codes",
    "external_accounts",
    "refresh_tokens",
    "revoked_tokens",
    "sign_ins",
    "signing_keys",
]

_TIME = DateTime(timezone=True)


def _identity(*, nullable: bool = False) -> Column[str]:
    return Column(
        "identity_id", Text, ForeignKey(f"{SCHEMA}.identities.identity_id", ondelete="CASCADE"), nullable=nullable
    )


external_accounts = Table(
    "external_accounts",
    metadata,
    Column("issuer", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    _identity(),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    UniqueConstraint("identity_id", "issuer", name="uq_external_accounts_identity_id"),
)
"""Which account of an identity provider is whose: one for each person and provider."""

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("public_key", Text, nullable=False),
    Column("sealed_private_key", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
)
"""Keys of tokens, as JSON Web Keys."""

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("sign_in_id", Text, primary_key=True),
    _identity(),
    Column("client_id", Text, nullable=False),
    Column("token_generation", Integer, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("expires_at", _TIME, nullable=False),
    Column("revoked_at", _TIME),
    Index("ix_sign_ins_identity_id", "identity_id"),
)
"""A person's sign-ins: each is a family of tokens, which are valid or revoked together."""

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column(
        "sign_in_id", Text, ForeignKey(f"{SCHEMA}.sign_ins.sign_in_id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("scope", Text, nullable=False),
    Column("used_at", _TIME),
)
"""Each is good for one use; used ones stay, to be recognized."""

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("expires_at", _TIME, nullable=False),
)
"""Access tokens that were revoked before their end; forgotten after it."""

authorization_codes = Table(
    "authorization_codes",
    metadata,
    Column("code_hash", Text, primary_key=True),
    Column("client_id", Text, nullable=False),
    _identity(),
    Column("redirect_uri", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("code_challenge", Text, nullable=False),
    Column("nonce", Text),
    Column("expires_at", _TIME, nullable=False),
    Column("sign_in_id", Text),
)
"""`sign_in_id` is what a code was redeemed for: a second time, that is revoked."""

device_codes = Table(
    "device_codes",
    metadata,
    Column("code_hash", Text, primary_key=True),
    Column("user_code", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("scope", Text, nullable=False),
    _identity(nullable=True),
    Column("denied_at", _TIME),
    Column("polled_at", _TIME),
    Column("expires_at", _TIME, nullable=False),
    UniqueConstraint("user_code", name="uq_device_codes_user_code"),
)
"""Devices that wait for a person; `identity_id` is who let one in."""

browser_sessions = Table(
    "browser_sessions",
    metadata,
    Column("session_hash", Text, primary_key=True),
    _identity(),
    Column("token_generation", Integer, nullable=False),
    Column("expires_at", _TIME, nullable=False),
)
