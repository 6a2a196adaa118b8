"""One period of retention, without the times of the last use of models."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
DROPPED = (
    ("models", "last_used_at"),
    ("installation", "images_until"),
    ("installation", "events_until"),
    ("installation", "pruned_until"),
)


def upgrade() -> None:
    for table, column in DROPPED:
        op.drop_column(table, column)
    op.drop_column("installation", "min_revision")


def downgrade() -> None:
    for table, column in DROPPED:
        op.add_column(table, sa.Column(column, TIME))
    op.add_column("installation", sa.Column("min_revision", sa.String(32)))
    op.execute("UPDATE installation SET min_revision = '0017'")
