"""Versions of the models that have the same name, and aliases that point to one of them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.String(40)
NAME = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("version", sa.Integer()))
    op.execute(
        "UPDATE models SET version = numbered.version FROM (SELECT id, row_number() OVER "
        "(PARTITION BY owner, name ORDER BY created_at, id) AS version FROM models "
        "WHERE name IS NOT NULL) AS numbered WHERE numbered.id = models.id"
    )
    with op.batch_alter_table("models") as models:
        models.create_unique_constraint(op.f("uq_models_owner_name_version"), ["owner", "name", "version"])

    op.create_table(
        "model_names",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_model_names_owner_owners")),
        sa.PrimaryKeyConstraint("owner", "name", name=op.f("pk_model_names")),
    )
    op.execute(
        "INSERT INTO model_names (owner, name, last_version) "
        "SELECT owner, name, max(version) FROM models WHERE name IS NOT NULL GROUP BY owner, name"
    )

    op.create_table(
        "aliases",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_aliases_owner_owners")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_aliases_model_id_models")),
        sa.PrimaryKeyConstraint("owner", "name", "alias", name=op.f("pk_aliases")),
    )
    op.create_index(op.f("ix_aliases_model_id"), "aliases", ["model_id"])

    op.create_table(
        "alias_moves",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("back", sa.Integer()),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["owner", "name", "alias"],
            ["aliases.owner", "aliases.name", "aliases.alias"],
            name=op.f("fk_alias_moves_owner_aliases"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("owner", "name", "alias", "revision", name=op.f("pk_alias_moves")),
    )


def downgrade() -> None:
    """What the aliases pointed to is lost."""
    for name in ("alias_moves", "aliases", "model_names"):
        op.drop_table(name)
    with op.batch_alter_table("models") as models:
        models.drop_constraint(op.f("uq_models_owner_name_version"), type_="unique")
        models.drop_column("version")
