"""Holds of backups, end of the pruned events, and the oldest version that works with the tables."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("hold_until", sa.DateTime(timezone=True)))
    op.add_column("installation", sa.Column("pruned_until", sa.DateTime(timezone=True)))
    op.add_column("installation", sa.Column("min_revision", sa.String(32)))
    op.execute("UPDATE installation SET min_revision = '0010'")


def downgrade() -> None:
    op.drop_column("installation", "min_revision")
    op.drop_column("installation", "pruned_until")
    op.drop_column("installation", "hold_until")
