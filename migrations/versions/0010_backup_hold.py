"""Hold on deletions during a backup."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("hold_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("installation", "hold_until")
