"""Records of plans, runs and evaluations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("fences", schema="tempomesh")))
    op.create_table(
        "claims",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("project", "model", "version", name=op.f("pk_claims")),
        schema="tempomesh",
    )
    op.create_index("ix_claims_owner", "claims", ["project", "owner_id"], unique=False, schema="tempomesh")
    op.create_table(
        "clients",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("project", "client_id", name=op.f("pk_clients")),
        sa.UniqueConstraint("project", "secret_hash", name="uq_clients_secret_hash"),
        schema="tempomesh",
    )
    op.create_table(
        "documents",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("project", "kind", "document_id", name=op.f("pk_documents")),
        schema="tempomesh",
    )
    op.create_table(
        "evaluations",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("evaluation_id", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("identifier", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("interval_start", sa.BigInteger(), nullable=True),
        sa.Column("interval_end", sa.BigInteger(), nullable=True),
        sa.Column("batch_index", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("executor", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("cause", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("log", sa.Text(), nullable=True),
        sa.Column(
            "audits", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.PrimaryKeyConstraint("project", "evaluation_id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint("project", "execution_id", "unit", name="uq_evaluations_unit"),
        schema="tempomesh",
    )
    op.create_index(
        "ix_evaluations_in_flight",
        "evaluations",
        ["project", "model", "version"],
        unique=False,
        schema="tempomesh",
        postgresql_where=sa.text("status = 'in_progress'"),
    )
    op.create_index("ix_evaluations_owner", "evaluations", ["project", "owner_id"], unique=False, schema="tempomesh")
    op.create_table(
        "event_streams",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "owner_id", name=op.f("pk_event_streams")),
        schema="tempomesh",
    )
    op.create_table(
        "events",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("project", "owner_id", "sequence", name=op.f("pk_events")),
        schema="tempomesh",
    )
    op.create_table(
        "executors",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("sqlmesh_version", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("gateways", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("python_environments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("project", "identity", name=op.f("pk_executors")),
        schema="tempomesh",
    )
    op.create_table(
        "plan_stages",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("project", "plan_id", "index", name=op.f("pk_plan_stages")),
        schema="tempomesh",
    )
    op.create_table(
        "plans",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("default_catalog", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("project", "plan_id", name=op.f("pk_plans")),
        schema="tempomesh",
    )
    op.create_index(
        "ix_plans_environment", "plans", ["project", "environment", "created_at"], unique=False, schema="tempomesh"
    )
    op.create_table(
        "runs",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("start_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("nothing_to_do", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", name=op.f("pk_runs")),
        schema="tempomesh",
    )
    op.create_index(
        "ix_runs_environment", "runs", ["project", "environment", "start_at"], unique=False, schema="tempomesh"
    )


def downgrade() -> None:
    op.drop_index("ix_runs_environment", table_name="runs", schema="tempomesh")
    op.drop_table("runs", schema="tempomesh")
    op.drop_index("ix_plans_environment", table_name="plans", schema="tempomesh")
    op.drop_table("plans", schema="tempomesh")
    op.drop_table("plan_stages", schema="tempomesh")
    op.drop_table("executors", schema="tempomesh")
    op.drop_table("events", schema="tempomesh")
    op.drop_table("event_streams", schema="tempomesh")
    op.drop_index("ix_evaluations_owner", table_name="evaluations", schema="tempomesh")
    op.drop_index(
        "ix_evaluations_in_flight",
        table_name="evaluations",
        schema="tempomesh",
        postgresql_where=sa.text("status = 'in_progress'"),
    )
    op.drop_table("evaluations", schema="tempomesh")
    op.drop_table("documents", schema="tempomesh")
    op.drop_table("clients", schema="tempomesh")
    op.drop_index("ix_claims_owner", table_name="claims", schema="tempomesh")
    op.drop_table("claims", schema="tempomesh")
    op.execute(sa.schema.DropSequence(sa.Sequence("fences", schema="tempomesh")))
