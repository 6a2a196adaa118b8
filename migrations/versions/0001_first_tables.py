"""Jobs with their images and events, models with names and aliases, owners, keys, webhooks, deletions."""

import secrets
from base64 import b64encode

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not imported from core.store.db.tables, because a migration never changes after its release.
ID = sa.String(40)
NAME = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "backbone_pulls",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("use", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_backbone_pulls")),
    )
    op.create_table(
        "deletions",
        sa.Column("prefix", sa.String(80), nullable=False),
        sa.Column("due_at", TIME),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_deletions")),
    )
    op.create_table(
        "installation",
        sa.Column("id", ID, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("hold_until", TIME),
        sa.Column("clock_at", TIME),
        sa.Column("default_backbone", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "owners",
        sa.Column("name", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("served_at", TIME),
        sa.Column("webhook_secret", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_owners")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("sha256", NAME, nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_api_keys_owner_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", NAME, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_idempotency_keys_owner_owners")),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("config", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("classes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("warnings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("progress", sa.JSON(none_as_null=True)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", ID),
        sa.Column("lease_expires_at", TIME),
        sa.Column("worker", sa.Text()),
        sa.Column("available_at", TIME, nullable=False),
        sa.Column("dispatched_at", TIME),
        sa.Column("error_code", NAME),
        sa.Column("error_detail", sa.Text()),
        sa.Column("metrics", sa.JSON(none_as_null=True)),
        sa.Column("model_id", ID),
        sa.Column("report_key", sa.Text()),
        sa.Column("webhook", sa.Text()),
        sa.Column("request_id", NAME),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("image_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_jobs_status")
        ),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_jobs_owner_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        op.f("ix_jobs_available_at"),
        "jobs",
        ["available_at"],
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        op.f("ix_jobs_dispatched_at"),
        "jobs",
        ["dispatched_at"],
        postgresql_where=sa.text("status = 'queued' AND dispatched_at IS NOT NULL"),
        sqlite_where=sa.text("status = 'queued' AND dispatched_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_jobs_error_code"),
        "jobs",
        ["error_code"],
        postgresql_where=sa.text("status = 'failed'"),
        sqlite_where=sa.text("status = 'failed'"),
    )
    op.create_index(op.f("ix_jobs_finished_at"), "jobs", ["finished_at"])
    op.create_index(op.f("ix_jobs_owner_created_at_id"), "jobs", ["owner", "created_at", "id"])
    op.create_index(
        op.f("ix_jobs_owner_status_created_at_id"), "jobs", ["owner", "status", "created_at", "id"]
    )
    op.create_index(op.f("ix_jobs_status_created_at_id"), "jobs", ["status", "created_at", "id"])
    op.create_index(
        op.f("ix_jobs_status_owner_created_at_id"),
        "jobs",
        ["status", "owner", "created_at", "id"],
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    op.create_table(
        "model_names",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_model_names_owner_owners")),
        sa.PrimaryKeyConstraint("owner", "name", name=op.f("pk_model_names")),
    )
    op.create_table(
        "models",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("version", sa.Integer()),
        sa.Column("job_id", ID),
        sa.Column("backbone", sa.Text(), nullable=False),
        sa.Column("image_size", sa.Integer()),
        sa.Column("classes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("templates", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("prompts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("weights_key", sa.Text(), nullable=False),
        sa.Column("manifest_key", sa.Text(), nullable=False),
        sa.Column("sha256", NAME, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("delta_format", sa.String(8), nullable=False),
        sa.Column("metrics", sa.JSON(none_as_null=True)),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_models_owner_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("owner", "name", "version", name=op.f("uq_models_owner_name_version")),
    )
    op.create_index(
        op.f("ix_models_backbone_delta_format_bytes"), "models", ["backbone", "delta_format", "bytes"]
    )
    op.create_index(op.f("ix_models_owner_created_at_id"), "models", ["owner", "created_at", "id"])
    op.create_table(
        "aliases",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_aliases_model_id_models")),
        sa.ForeignKeyConstraint(["owner"], ["owners.name"], name=op.f("fk_aliases_owner_owners")),
        sa.PrimaryKeyConstraint("owner", "name", "alias", name=op.f("pk_aliases")),
    )
    op.create_index(op.f("ix_aliases_model_id"), "aliases", ["model_id"])
    op.create_table(
        "job_events",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_job_events")),
    )
    op.create_table(
        "job_images",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(8), nullable=False),
        sa.Column("class_name", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("blob_key", sa.Text(), nullable=False),
        sa.Column("sha256", NAME, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("label_confirmed", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME),
        sa.CheckConstraint("split IN ('train', 'test', 'feedback')", name=op.f("ck_job_images_split")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_images_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_images")),
        sa.UniqueConstraint("job_id", "position", name=op.f("uq_job_images_job_id_position")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_webhook_deliveries_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_job_id"), "webhook_deliveries", ["job_id"])
    op.create_index(op.f("ix_webhook_deliveries_next_attempt_at"), "webhook_deliveries", ["next_attempt_at"])
    op.create_table(
        "alias_moves",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
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
    op.execute(
        f"INSERT INTO installation (id, created_at) VALUES ('ins_{secrets.token_hex(16)}', CURRENT_TIMESTAMP)"
    )
    secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
    op.execute(
        "INSERT INTO owners (name, created_at, webhook_secret) "
        f"VALUES ('default', CURRENT_TIMESTAMP, '{secret}')"
    )


def downgrade() -> None:
    for table in (
        "alias_moves",
        "webhook_deliveries",
        "job_images",
        "job_events",
        "aliases",
        "models",
        "model_names",
        "jobs",
        "idempotency_keys",
        "api_keys",
        "owners",
        "installation",
        "deletions",
        "backbone_pulls",
    ):
        op.drop_table(table)
