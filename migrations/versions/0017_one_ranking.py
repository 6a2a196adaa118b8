"""One index of the queued jobs for their ranking, instead of stored numbers of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
ADDED = ("jobs", ["status", "owner", "created_at", "id"], "status = 'queued'")
DROPPED = (
    ("owners", ["running", "served_at"], "queued > 0 AND served_at IS NOT NULL"),
    ("owners", ["running", "waiting_since"], "queued > 0 AND served_at IS NULL"),
    ("owners", ["served_at"], None),
)


def upgrade() -> None:
    for table, columns, _ in DROPPED:
        op.drop_index(_name(table, columns), table)
    for column in ("waiting_since", *STATUSES):
        op.drop_column("owners", column)
    _create(*ADDED)
    # Oldest revision whose software works with these tables: those before it use the columns.
    op.execute("UPDATE installation SET min_revision = '0017'")


def downgrade() -> None:
    op.drop_index(_name(*ADDED[:2]), ADDED[0])
    op.add_column("owners", sa.Column("waiting_since", sa.DateTime(timezone=True)))
    for status in STATUSES:
        op.add_column("owners", sa.Column(status, sa.Integer(), server_default="0", nullable=False))
    counts = [
        f"{status} = (SELECT count(*) FROM jobs WHERE owner = owners.name AND status = '{status}')"
        for status in STATUSES
    ]
    oldest = "(SELECT min(created_at) FROM jobs WHERE owner = owners.name AND status = 'queued')"
    op.execute(f"UPDATE owners SET waiting_since = {oldest}, {', '.join(counts)}")
    for table, columns, where in DROPPED:
        _create(table, columns, where)
    op.execute("UPDATE installation SET min_revision = '0016'")


def _create(table: str, columns: list[str], where: str | None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(_name(table, columns), table, columns, postgresql_where=condition, sqlite_where=condition)


def _name(table: str, columns: list[str]) -> str:
    return op.f(f"ix_{table}_{'_'.join(columns)}")
