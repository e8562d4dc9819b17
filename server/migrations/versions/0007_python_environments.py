"""What the environment of a plan asks for of Python, what it runs in, and what executors have built."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("plans", _json("requirements", "'{}'::jsonb"), schema="tempomesh")
    op.add_column("plans", sa.Column("python_version", sa.Text(), nullable=True), schema="tempomesh")
    op.add_column("plans", sa.Column("python_environment", sa.Text(), nullable=True), schema="tempomesh")
    op.add_column("executors", _json("pythons", "'[]'::jsonb"), schema="tempomesh")
    op.add_column("executors", sa.Column("package_index_error", sa.Text(), nullable=True), schema="tempomesh")


def _json(name: str, empty: str) -> "sa.Column[object]":
    kind = postgresql.JSONB(astext_type=sa.Text())
    return sa.Column(name, kind, nullable=False, server_default=sa.text(empty))
