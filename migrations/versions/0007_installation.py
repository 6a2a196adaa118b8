"""An id for the installation, and marks on stored folders that no row owns."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.String(40)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("id", ID, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("refused_at", TIME),
        sa.Column("swept_at", TIME),
        sa.Column("folders", sa.Integer()),
        sa.Column("checkpoints_until", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.execute(
        f"INSERT INTO installation (id, created_at) VALUES ('ins_{secrets.token_hex(16)}', CURRENT_TIMESTAMP)"
    )
    op.create_table(
        "orphans",
        sa.Column("prefix", sa.String(80), nullable=False),
        sa.Column("first_seen", TIME, nullable=False),
        sa.Column("deleted_at", TIME),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_orphans")),
    )
    op.create_index(op.f("ix_jobs_finished_at"), "jobs", ["finished_at"])


def downgrade() -> None:
    """The next upgrade makes another id: `clipcite storage adopt` is then needed."""
    op.drop_index(op.f("ix_jobs_finished_at"), "jobs")
    op.drop_table("orphans")
    op.drop_table("installation")
