"""A queued job has two times: when it may start, and when its last message was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs whose message is out are sent once more, at the time when it would have counted as lost."""
    op.execute("ALTER TABLE jobs RENAME COLUMN next_dispatch_at TO available_at")
    op.add_column("jobs", sa.Column("dispatched_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Jobs whose message is out are sent once more."""
    op.drop_column("jobs", "dispatched_at")
    op.execute("ALTER TABLE jobs RENAME COLUMN available_at TO next_dispatch_at")
