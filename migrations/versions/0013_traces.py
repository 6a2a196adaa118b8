"""Trace of the request that created a job."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("traceparent", sa.String(64)))
    # Oldest revision whose software works with these tables.
    op.execute("UPDATE installation SET min_revision = '0010'")


def downgrade() -> None:
    op.drop_column("jobs", "traceparent")
