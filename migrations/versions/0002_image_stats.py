"""Statistics of images."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_images", sa.Column("stats", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    with op.batch_alter_table("job_images") as images:
        images.drop_column("stats")
