"""Piles: images that wait for labels, their features, and what people said about them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON_VALUE = sa.JSON(none_as_null=True)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "piles",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("class_names", JSON_VALUE),
        sa.Column("keeps_images", sa.Boolean(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("revision", "images", "labelled", "none", "drawn")
        ),
        sa.Column("used_names", JSON_VALUE, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_piles"),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name="fk_piles_owner_owners"),
    )
    op.create_index("ix_piles_owner_created_at_id", "piles", ["owner", "created_at", "id"])
    op.create_index("ix_piles_used_at", "piles", ["used_at"])
    op.create_table(
        "pile_images",
        sa.Column("pile_id", sa.String(40), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("blob_key", sa.Text()),
        sa.Column("blob_sha256", sa.String(64)),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pile_id", "position", name="pk_pile_images"),
        sa.UniqueConstraint("pile_id", "sha256", name="uq_pile_images_pile_id_sha256"),
        _of_a_pile("pile_images"),
    )
    op.create_index("ix_pile_images_sha256", "pile_images", ["sha256"])
    op.create_table(
        "pile_features",
        sa.Column("blob_key", sa.String(120), nullable=False),
        sa.Column("pile_id", sa.String(40), nullable=False),
        sa.Column("model_key", sa.Text(), nullable=False),
        sa.Column("positions", JSON_VALUE, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("blob_key", name="pk_pile_features"),
        _of_a_pile("pile_features"),
    )
    op.create_index("ix_pile_features_pile_id_model_key", "pile_features", ["pile_id", "model_key"])
    op.create_table(
        "pile_answers",
        sa.Column("pile_id", sa.String(40), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("said", sa.String(16), nullable=False),
        sa.Column("class_name", sa.Text()),
        sa.Column("how", sa.String(16), nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("pile_id", "seq", name="pk_pile_answers"),
        _of_a_pile("pile_answers"),
    )
    op.create_index("ix_pile_answers_pile_id_position_seq", "pile_answers", ["pile_id", "position", "seq"])


def _of_a_pile(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["pile_id"], ["piles.id"], name=f"fk_{table}_pile_id_piles", ondelete="CASCADE"
    )


def downgrade() -> None:
    for table in ("pile_answers", "pile_features", "pile_images", "piles"):
        op.drop_table(table)
