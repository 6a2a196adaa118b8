"""Models that no job has made, and how the weights of each are stored."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was stored so far is stored in full."""
    with op.batch_alter_table("models") as models:
        models.alter_column("job_id", existing_type=sa.String(40), nullable=True)
        models.add_column(sa.Column("weights", sa.String(8), nullable=False, server_default="full"))


def downgrade() -> None:
    """Imported models are then of a job without a name."""
    op.execute("UPDATE models SET job_id = '' WHERE job_id IS NULL")
    with op.batch_alter_table("models") as models:
        models.drop_column("weights")
        models.alter_column("job_id", existing_type=sa.String(40), nullable=False)
