"""Statistics of images, and whether a name may refer to a model. Earlier models keep their names."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_images", sa.Column("stats", sa.JSON(none_as_null=True)))
    op.add_column("models", sa.Column("promoted", sa.Boolean()))
    op.execute(sa.table("models", sa.column("promoted", sa.Boolean())).update().values(promoted=True))


def downgrade() -> None:
    with op.batch_alter_table("job_images") as images:
        images.drop_column("stats")
    with op.batch_alter_table("models") as models:
        models.drop_column("promoted")
