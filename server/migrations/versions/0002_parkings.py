"""Which run waits for a claimed table; evaluations are found by their table."""

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
