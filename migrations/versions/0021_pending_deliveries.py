"""Pending webhook deliveries and one secret per owner alone: events of the jobs tell how a delivery ended."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.execute("DELETE FROM webhook_deliveries WHERE finished_at IS NOT NULL")
    op.drop_index("ix_webhook_deliveries_finished_at", "webhook_deliveries")
    for column in ("finished_at", "status", "reason"):
        op.drop_column("webhook_deliveries", column)
    op.execute("DELETE FROM webhook_secrets WHERE expires_at IS NOT NULL")
    op.drop_column("webhook_secrets", "expires_at")


def downgrade() -> None:
    op.add_column("webhook_secrets", sa.Column("expires_at", TIME))
    op.add_column("webhook_deliveries", sa.Column("finished_at", TIME))
    op.add_column("webhook_deliveries", sa.Column("status", sa.Integer()))
    op.add_column("webhook_deliveries", sa.Column("reason", sa.Text()))
    op.create_index("ix_webhook_deliveries_finished_at", "webhook_deliveries", ["finished_at"])
