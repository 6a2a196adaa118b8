"""Confirmed labels; models before their evaluation: two webhook deliveries per job, the key of the report.

Revision 0011, which only these labels had, is part of this one: no released version wrote it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job_images",
        sa.Column("label_confirmed", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("jobs", sa.Column("report_key", sa.Text()))
    with op.batch_alter_table("webhook_deliveries") as table:
        table.drop_constraint(op.f("uq_webhook_deliveries_job_id"), type_="unique")
        table.create_index(op.f("ix_webhook_deliveries_job_id"), ["job_id"])
    # Oldest revision whose software works with these tables.
    op.execute("UPDATE installation SET min_revision = '0010'")


def downgrade() -> None:
    later = "SELECT job_id FROM webhook_deliveries GROUP BY job_id HAVING count(*) > 1"
    op.execute(f"DELETE FROM webhook_deliveries WHERE job_id IN ({later})")
    with op.batch_alter_table("webhook_deliveries") as table:
        table.drop_index(op.f("ix_webhook_deliveries_job_id"))
        table.create_unique_constraint(op.f("uq_webhook_deliveries_job_id"), ["job_id"])
    op.drop_column("jobs", "report_key")
    op.drop_column("job_images", "label_confirmed")
