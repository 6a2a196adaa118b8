"""Downloads of backbones, and the default backbone."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("default_backbone", sa.Text()))
    op.create_table(
        "backbone_pulls",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("use", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_backbone_pulls")),
    )


def downgrade() -> None:
    op.drop_table("backbone_pulls")
    op.drop_column("installation", "default_backbone")
