"""Numbers of jobs per owner and status, indexes of the fair queue, and the running workers."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
PARTIAL = (
    ("owners", ["running", "served_at"], "queued > 0 AND served_at IS NOT NULL"),
    ("owners", ["running", "waiting_since"], "queued > 0 AND served_at IS NULL"),
    ("jobs", ["available_at"], "status = 'queued'"),
    ("jobs", ["dispatched_at"], "status = 'queued' AND dispatched_at IS NOT NULL"),
    ("jobs", ["error_code"], "status = 'failed'"),
)


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.add_column("owners", sa.Column("waiting_since", sa.DateTime(timezone=True)))
    for status in STATUSES:
        op.add_column("owners", sa.Column(status, sa.Integer(), server_default="0", nullable=False))
    counts = [
        f"{status} = (SELECT count(*) FROM jobs WHERE owner = owners.name AND status = '{status}')"
        for status in STATUSES
    ]
    oldest = "(SELECT min(created_at) FROM jobs WHERE owner = owners.name AND status = 'queued')"
    op.execute(f"UPDATE owners SET waiting_since = {oldest}, {', '.join(counts)}")
    op.create_index(op.f("ix_owners_served_at"), "owners", ["served_at"])
    size = ["backbone", "delta_format", "bytes"]
    op.create_index(op.f("ix_models_backbone_delta_format_bytes"), "models", size)
    for table, columns, where in PARTIAL:
        condition = sa.text(where)
        name = op.f(f"ix_{table}_{'_'.join(columns)}")
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)
    # Older software changes no numbers. The dispatcher corrects them every minute.
    op.execute("UPDATE installation SET min_revision = '0010'")


def downgrade() -> None:
    for table, columns, _ in PARTIAL:
        op.drop_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table)
    op.drop_index(op.f("ix_models_backbone_delta_format_bytes"), "models")
    op.drop_index(op.f("ix_owners_served_at"), "owners")
    for column in (*STATUSES, "waiting_since"):
        op.drop_column("owners", column)
    op.drop_table("workers")
