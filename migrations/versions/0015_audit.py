"""Audit log, retention, request ids of jobs and finished webhook deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(80), nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("address", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at_id"), "audit", ["at", "id"])
    op.create_index(op.f("ix_audit_owner_at_id"), "audit", ["owner", "at", "id"])
    op.add_column("jobs", sa.Column("request_id", sa.String(64)))
    op.add_column("models", sa.Column("last_used_at", TIME))
    with op.batch_alter_table("webhook_deliveries") as table:
        table.add_column(sa.Column("finished_at", TIME))
        table.add_column(sa.Column("status", sa.Integer()))
        table.add_column(sa.Column("reason", sa.Text()))
        table.alter_column("next_attempt_at", existing_type=TIME, nullable=True)
        table.create_index(op.f("ix_webhook_deliveries_finished_at"), ["finished_at"])
    op.add_column("installation", sa.Column("images_until", TIME))
    op.add_column("installation", sa.Column("events_until", TIME))
    # Oldest revision whose software works with these tables.
    op.execute("UPDATE installation SET min_revision = '0010'")


def downgrade() -> None:
    op.execute("DELETE FROM webhook_deliveries WHERE next_attempt_at IS NULL")
    op.drop_column("installation", "events_until")
    op.drop_column("installation", "images_until")
    with op.batch_alter_table("webhook_deliveries") as table:
        table.drop_index(op.f("ix_webhook_deliveries_finished_at"))
        table.alter_column("next_attempt_at", existing_type=TIME, nullable=False)
        table.drop_column("reason")
        table.drop_column("status")
        table.drop_column("finished_at")
    op.drop_column("models", "last_used_at")
    op.drop_column("jobs", "request_id")
    op.drop_table("audit")
