"""Corrections of a model: images of its job with the split `feedback`, and the time of each."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("job_images") as table:
        table.add_column(sa.Column("created_at", sa.DateTime(timezone=True)))
        table.drop_constraint(op.f("ck_job_images_split"), type_="check")
        table.create_check_constraint(op.f("ck_job_images_split"), "split IN ('train', 'test', 'feedback')")


def downgrade() -> None:
    op.execute("DELETE FROM job_images WHERE split = 'feedback'")
    with op.batch_alter_table("job_images") as table:
        table.drop_constraint(op.f("ck_job_images_split"), type_="check")
        table.create_check_constraint(op.f("ck_job_images_split"), "split IN ('train', 'test')")
        table.drop_column("created_at")
