"""Labels that the user has set or confirmed."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job_images",
        sa.Column("label_confirmed", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.execute("UPDATE installation SET min_revision = '0010'")


def downgrade() -> None:
    op.drop_column("job_images", "label_confirmed")
