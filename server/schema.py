"""The tables of the server's own records, in the PostgreSQL schema `tempomesh`; migrated by Alembic.

Every key begins with the project. Intervals are half-open, in milliseconds since the epoch.
"""

import secrets

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "SCHEMA",
    "audit_log",
    "claims",
    "connection_candidates",
    "connections",
    "documents",
    "evaluations",
    "event_streams",
    "events",
    "executors",
    "fences",
    "grants",
    "identities",
    "metadata",
    "parkings",
    "pause_notices",
    "pauses",
    "plan_stages",
    "plans",
    "queries",
    "runs",
    "slots",
    "scheduled_environments",
]

SCHEMA = "tempomesh"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"},
)

fences = Sequence("fences", metadata=metadata)
"""Numbers that grow with every start of an evaluation: an older one has lost its lease."""

_TIME = DateTime(timezone=True)


def _first_generation() -> int:
    # By chance: what was issued to somebody who was deleted is not valid for the next one of that name.
    return secrets.randbelow(2**30)


identities = Table(
    "identities",
    metadata,
    Column("identity_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("display_name", Text),
    Column("secret_hash", Text),
    Column("password_hash", Text),
    Column("created_by", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("disabled_at", _TIME),
    Column("is_administrator", Boolean, nullable=False, server_default=text("false")),
    Column("password_is_one_time", Boolean, nullable=False, server_default=text("false")),
    Column("token_generation", Integer, nullable=False, server_default=text("0"), default=_first_generation),
    UniqueConstraint("secret_hash", name="uq_identities_secret_hash"),
)
"""People and services, of the whole server. `secret_hash` is SHA-256 of a random secret, `password_hash` argon2's. What
was issued under an earlier `token_generation` is not valid any more."""

grants = Table(
    "grants",
    metadata,
    Column("grant_id", Text, primary_key=True, server_default=text("gen_random_uuid()::text")),
    Column("project", Text, nullable=False),
    Column("identity_id", Text, ForeignKey(f"{SCHEMA}.identities.identity_id", ondelete="CASCADE"), nullable=False),
    Column("role", Text),
    Column("actions", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("environments", JSONB, nullable=False, server_default=text("""'["*"]'::jsonb""")),
    Column("models", JSONB, nullable=False, server_default=text("""'["*"]'::jsonb""")),
    Column("created_by", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Index("ix_grants_identity_id_project", "identity_id", "project"),
)
"""What an identity may do in a project: a role, or actions within environments and models."""

plans = Table(
    "plans",
    metadata,
    Column("project", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("environment", Text, nullable=False),
    Column("previous_plan_id", Text),
    Column("status", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("start_at", _TIME),
    Column("end_at", _TIME),
    Column("error_message", Text),
    Column("gateway", Text, nullable=False),
    Column("default_catalog", Text),
    Column("evaluation_policy", JSONB),
    Column("requirements", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("python_version", Text),
    Column("python_environment", Text),
    Index("ix_plans_environment", "project", "environment", "created_at"),
)

plan_stages = Table(
    "plan_stages",
    metadata,
    Column("project", Text, primary_key=True),
    Column("plan_id", Text, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("count", Integer),
    Column("status", Text, nullable=False),
    Column("start_at", _TIME),
    Column("end_at", _TIME),
    Column("error_message", Text),
)

documents = Table(
    "documents",
    metadata,
    Column("project", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
)
"""Immutable JSON, compressed with zstd: plans, their stages, executions."""

runs = Table(
    "runs",
    metadata,
    Column("project", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("environment", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("created_by", Text),
    Column("start_at", _TIME, nullable=False, server_default=text("now()")),
    Column("end_at", _TIME),
    Column("error_message", Text),
    Column("options", JSONB, nullable=False),
    Column("nothing_to_do", Boolean, nullable=False, server_default=text("false")),
    Column("preempted_by", Text),
    Index("ix_runs_environment", "project", "environment", "start_at"),
    Index("ix_runs_start", "project", "start_at", "run_id"),
    Index("ix_runs_status", "project", "status", "start_at"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("project", Text, primary_key=True),
    Column("evaluation_id", Text, primary_key=True),
    Column("execution_id", Text, nullable=False),
    Column("unit", Integer, nullable=False),
    Column("owner_kind", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("identifier", Text, nullable=False),
    Column("version", Text),
    Column("interval_start", BigInteger),
    Column("interval_end", BigInteger),
    Column("batch_index", Integer),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fence", BigInteger),
    Column("executor", Text),
    Column("lease_expires_at", _TIME),
    Column("start_at", _TIME),
    Column("end_at", _TIME),
    Column("error_message", Text),
    Column("cause", JSONB),
    Column("log", Text),
    Column("audits", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    UniqueConstraint("project", "execution_id", "unit", name="uq_evaluations_unit"),
    Index("ix_evaluations_owner_model", "project", "owner_id", "model"),
    Index("ix_evaluations_table", "project", "model", "version", "end_at"),
    Index("ix_evaluations_history", "project", "model", text("COALESCE(start_at, end_at)"), "evaluation_id"),
    Index(
        "ix_evaluations_in_flight",
        "project",
        "model",
        "version",
        postgresql_where=text("status = 'in_progress'"),
    ),
)

claims = Table(
    "claims",
    metadata,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("owner_kind", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("lease_expires_at", _TIME, nullable=False),
    Column("is_held", Boolean, nullable=False, server_default=text("false")),
    Index("ix_claims_owner", "project", "owner_id"),
)
"""Who may write a physical table: one plan or run at a time. What is held stays its owner's until that is over, whether
or not anything is in flight."""

parkings = Table(
    "parkings",
    metadata,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("owner_id", Text, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Index("ix_parkings_owner", "project", "owner_id"),
)
"""Which run waits for a physical table that is claimed: one at a time, later ones leave the model out."""

slots = Table(
    "slots",
    metadata,
    Column("project", Text, primary_key=True),
    Column("gateway", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("holder", Text),
    Column("lease_expires_at", _TIME, nullable=False, server_default=text("'-infinity'")),
    Index("ix_slots_holder", "project", "holder"),
)
"""As many for each gateway as it takes concurrent tasks: an evaluation holds one of them, whichever executor has it."""

event_streams = Table(
    "event_streams",
    metadata,
    Column("project", Text, primary_key=True),
    Column("owner_id", Text, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
)
"""The last event of each plan or run; its row lock puts the events of one owner in the order of their commits."""

events = Table(
    "events",
    metadata,
    Column("project", Text, primary_key=True),
    Column("owner_id", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("type", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
)

executors = Table(
    "executors",
    metadata,
    Column("project", Text, primary_key=True),
    Column("identity", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("sqlmesh_version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("last_seen_at", _TIME, nullable=False),
    Column("gateways", JSONB, nullable=False),
    Column("python_environments", JSONB, nullable=False),
    Column("pythons", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("package_index_error", Text),
)

queries = Table(
    "queries",
    metadata,
    Column("project", Text, primary_key=True),
    Column("query_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("start_at", _TIME),
    Column("end_at", _TIME),
    Column("error_message", Text),
    Index("ix_queries_open", "project", "kind", postgresql_where=text("end_at IS NULL")),
)
"""Questions to warehouses and the janitor's work."""

scheduled_environments = Table(
    "scheduled_environments",
    metadata,
    Column("project", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("is_scheduled", Boolean, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", _TIME, nullable=False, server_default=text("now()")),
)
"""Somebody's decision whether an environment is scheduled; without one the settings decide."""

pauses = Table(
    "pauses",
    metadata,
    Column("project", Text, primary_key=True),
    Column("pause_id", Text, primary_key=True),
    Column("environment", Text, nullable=False),
    Column("model", Text),
    Column("left_out", JSONB, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("until", _TIME),
    Index("uq_pauses_what", "project", "environment", text("COALESCE(model, '')"), unique=True),
)
"""What runs leave out. `model` is as it was asked for, null for a whole environment; `left_out` has each model that it
means, and each one downstream, with the one that it is downstream of."""

pause_notices = Table(
    "pause_notices",
    metadata,
    Column("project", Text, primary_key=True),
    Column("number", BigInteger, Identity(), primary_key=True),
    Column("environment", Text, nullable=False),
    Column("signal", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
)
"""What environments' workflows are still to be told: written with a pause, deleted when Temporal has it."""

connections = Table(
    "connections",
    metadata,
    Column("project", Text, primary_key=True),
    Column("gateway", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealed_key", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("default_catalog", Text),
    Column("concurrent_tasks", Integer, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", _TIME, nullable=False, server_default=text("now()")),
)
"""The vault. `sealed` is a connection under a key of its own, `sealed_key` that key under the server's ring of keys."""

connection_candidates = Table(
    "connection_candidates",
    metadata,
    Column("project", Text, primary_key=True),
    Column("query_id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealed_key", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
)
"""Connections that are being tested: each becomes one of the vault's, or is forgotten, when its test ends."""

audit_log = Table(
    "audit_log",
    metadata,
    Column("project", Text, primary_key=True),
    Column("entry_id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", JSONB, nullable=False),
    Column("allowed", Boolean, nullable=False, server_default=text("true")),
    Column("address", Text),
    Index("ix_audit_log_subject", "project", "subject", "action", "entry_id"),
)
"""Who did what, or was not allowed to, and from where; a trigger refuses every change of an entry."""
