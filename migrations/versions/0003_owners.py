"""Owners, their keys, idempotency keys, and deletions that are still to be finished."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(40)
NAME = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    owners = op.create_table(
        "owners",
        sa.Column("name", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("served_at", TIME),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_owners")),
    )
    # Whatever there is was made before there were owners.
    op.execute(owners.insert().values(name="default", created_at=sa.func.current_timestamp()))

    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_api_keys_owner_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )

    op.create_table(
        "idempotency_keys",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_idempotency_keys_owner_owners")),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])

    op.create_table(
        "deletions",
        sa.Column("prefix", sa.String(80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_deletions")),
    )

    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("owner", NAME))
        jobs.add_column(sa.Column("picture_bytes", sa.BigInteger()))
        jobs.add_column(sa.Column("reserved_bytes", sa.BigInteger()))
    op.execute(
        "UPDATE jobs SET owner = 'default', reserved_bytes = 0, picture_bytes = "
        "coalesce((SELECT sum(bytes) FROM pictures WHERE job_id = jobs.id), 0)"
    )
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("owner", existing_type=NAME, nullable=False)
        jobs.alter_column("picture_bytes", existing_type=sa.BigInteger(), nullable=False)
        jobs.alter_column("reserved_bytes", existing_type=sa.BigInteger(), nullable=False)
        jobs.create_foreign_key(op.f("fk_jobs_owner_owners"), "owners", ["owner"], ["name"])
        jobs.drop_index(op.f("ix_jobs_created_at_id"))
        jobs.create_index(op.f("ix_jobs_owner_created_at_id"), ["owner", "created_at", "id"])
        jobs.create_index(op.f("ix_jobs_owner_status_created_at_id"), ["owner", "status", "created_at", "id"])

    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("owner", NAME))
    op.execute("UPDATE models SET owner = 'default'")
    with op.batch_alter_table("models") as models:
        models.alter_column("owner", existing_type=NAME, nullable=False)
        models.create_foreign_key(op.f("fk_models_owner_owners"), "owners", ["owner"], ["name"])
        models.drop_index(op.f("ix_models_created_at_id"))
        models.create_index(op.f("ix_models_owner_created_at_id"), ["owner", "created_at", "id"])


def downgrade() -> None:
    """Whose job and model it was is lost."""
    with op.batch_alter_table("models") as models:
        models.drop_index(op.f("ix_models_owner_created_at_id"))
        models.create_index(op.f("ix_models_created_at_id"), ["created_at", "id"])
        models.drop_constraint(op.f("fk_models_owner_owners"), type_="foreignkey")
        models.drop_column("owner")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index(op.f("ix_jobs_owner_status_created_at_id"))
        jobs.drop_index(op.f("ix_jobs_owner_created_at_id"))
        jobs.create_index(op.f("ix_jobs_created_at_id"), ["created_at", "id"])
        jobs.drop_constraint(op.f("fk_jobs_owner_owners"), type_="foreignkey")
        for name in ("owner", "picture_bytes", "reserved_bytes"):
            jobs.drop_column(name)
    for name in ("deletions", "idempotency_keys", "api_keys", "owners"):
        op.drop_table(name)
