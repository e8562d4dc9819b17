"""Indexes for what is read of runs and models: newest first, by status, by model."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_runs_start", "runs", ["project", "start_at", "run_id"], unique=False, schema="tempomesh")
    op.create_index("ix_runs_status", "runs", ["project", "status", "start_at"], unique=False, schema="tempomesh")
    op.create_index(
        "ix_evaluations_history",
        "evaluations",
        ["project", "model", sa.text("COALESCE(start_at, end_at)"), "evaluation_id"],
        unique=False,
        schema="tempomesh",
    )
    # Takes the place of the one of owners alone: every index more is written with every unit.
    op.create_index(
        "ix_evaluations_owner_model", "evaluations", ["project", "owner_id", "model"], unique=False, schema="tempomesh"
    )
    op.drop_index("ix_evaluations_owner", table_name="evaluations", schema="tempomesh")
