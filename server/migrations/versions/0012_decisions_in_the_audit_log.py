"""The audit log has what was not allowed, too, and where calls came from."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("allowed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("address", sa.Text()),
    ):
        op.add_column("audit_log", column, schema="tempomesh")
