"""Pauses, what environments' workflows are still to be told of them, and the audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pauses",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("pause_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("left_out", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("project", "pause_id", name="pk_pauses"),
        schema="tempomesh",
    )
    op.create_index(
        "uq_pauses_what",
        "pauses",
        ["project", "environment", sa.text("COALESCE(model, '')")],
        unique=True,
        schema="tempomesh",
    )
    op.create_table(
        "pause_notices",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("project", "number", name="pk_pause_notices"),
        schema="tempomesh",
    )
    op.create_table(
        "audit_log",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("project", "entry_id", name="pk_audit_log"),
        schema="tempomesh",
    )
    op.create_index(
        "ix_audit_log_subject", "audit_log", ["project", "subject", "action", "entry_id"], schema="tempomesh"
    )
    op.execute(
        """
        CREATE FUNCTION tempomesh.keep_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'entries of the audit log are only ever added';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER keep_audit_log BEFORE UPDATE OR DELETE OR TRUNCATE ON tempomesh.audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION tempomesh.keep_audit_log()"
    )
