"""Tables that a plan keeps others away from, without evaluating anything there; how much a stage of it deals with."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "claims",
        sa.Column("is_held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="tempomesh",
    )
    op.add_column("plan_stages", sa.Column("count", sa.Integer()), schema="tempomesh")
