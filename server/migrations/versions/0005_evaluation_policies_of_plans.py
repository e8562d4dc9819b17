"""What a plan's project asks of evaluations: retries and timeouts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "plans",
        sa.Column("evaluation_policy", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        schema="tempomesh",
    )
