"""Who waits for a claimed table, who has a slot of a gateway, which plan changed the environment of a run."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parkings",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("project", "model", "version", name=op.f("pk_parkings")),
        schema="tempomesh",
    )
    op.create_index("ix_parkings_owner", "parkings", ["project", "owner_id"], unique=False, schema="tempomesh")
    op.create_index(
        "ix_evaluations_table",
        "evaluations",
        ["project", "model", "version", "end_at"],
        unique=False,
        schema="tempomesh",
    )
    op.create_table(
        "slots",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column(
            "lease_expires_at", sa.DateTime(timezone=True), server_default=sa.text("'-infinity'"), nullable=False
        ),
        sa.PrimaryKeyConstraint("project", "gateway", "number", name=op.f("pk_slots")),
        schema="tempomesh",
    )
    op.create_index("ix_slots_holder", "slots", ["project", "holder"], unique=False, schema="tempomesh")
    op.add_column("runs", sa.Column("preempted_by", sa.Text(), nullable=True), schema="tempomesh")
