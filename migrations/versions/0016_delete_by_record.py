"""Deletions with a time, and an end to the search for files without a row."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
SWEEP = {"refused_at": TIME, "swept_at": TIME, "folders": sa.Integer(), "checkpoints_until": TIME}


def upgrade() -> None:
    with op.batch_alter_table("deletions") as table:
        table.alter_column("created_at", new_column_name="due_at", existing_type=TIME, nullable=True)
    op.execute("UPDATE deletions SET due_at = NULL")  # all present ones are due
    op.drop_table("orphans")
    with op.batch_alter_table("installation") as table:
        for name in SWEEP:
            table.drop_column(name)
        table.add_column(sa.Column("clock_at", TIME))
    # Older software would delete what is not due.
    op.execute("UPDATE installation SET min_revision = '0016'")


def downgrade() -> None:
    op.execute("UPDATE installation SET min_revision = '0010'")
    with op.batch_alter_table("installation") as table:
        table.drop_column("clock_at")
        for name, kind in SWEEP.items():
            table.add_column(sa.Column(name, kind))
    op.create_table(
        "orphans",
        sa.Column("prefix", sa.String(80), nullable=False),
        sa.Column("first_seen", TIME, nullable=False),
        sa.Column("deleted_at", TIME),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_orphans")),
    )
    op.execute("DELETE FROM deletions WHERE due_at IS NOT NULL")  # files being stored; older software sweeps
    op.execute("UPDATE deletions SET due_at = CURRENT_TIMESTAMP")
    with op.batch_alter_table("deletions") as table:
        table.alter_column("due_at", new_column_name="created_at", existing_type=TIME, nullable=False)
