"""Of plans: the one that each was made after, tables that it holds, and how much its stages deal with."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "claims",
        sa.Column("is_held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="tempomesh",
    )
    op.add_column("plan_stages", sa.Column("count", sa.Integer()), schema="tempomesh")
    # Unknown of plans that are there: one that waits for an environment that exists has to be made again.
    op.add_column("plans", sa.Column("previous_plan_id", sa.Text()), schema="tempomesh")
