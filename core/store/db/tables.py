"""The tables. A column added here needs a migration; `alembic check` in the tests sees to that."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
STATUSES = (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
FINAL = (SUCCEEDED, FAILED, CANCELLED)

# Constraints with names of their own can be changed by later migrations, on SQLite too.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes, in UTC on both databases. SQLite keeps text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"A time without a time zone: {value!r}.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# None is SQL's NULL, never JSON's null: one way to ask for what is missing.
_Json = JSON(none_as_null=True)
_Id = String(40)
_Name = String(64)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)


class Owner(Base):
    """Whose jobs and models they are: a team. Its row is what admissions and claims lock."""

    __tablename__ = "owners"

    name: Mapped[str] = mapped_column(_Name, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    served_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a job of theirs was last started: who waits longest is next."""


class ApiKey(Base):
    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("sha256"),)

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    name: Mapped[str | None] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(String(16))
    """The key's first characters, to tell which one it is. The key itself is stored nowhere."""
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(_Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """To the minute."""


class IdempotencyKey(Base):
    """What a client called its request, so that its retry makes no second job."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(_Id)
    """No foreign key: a retry must not bring back a job that was deleted."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Deletion(Base):
    """A folder of blobs whose row is gone and that must go too, however often it takes."""

    __tablename__ = "deletions"

    prefix: Mapped[str] = mapped_column(String(80), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Installation(Base):
    """This installation, in one row: `installation.json` in its storage has the same id."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    refused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Last time when a storage without an id was taken for another installation's."""
    swept_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Begin of the last sweep by a dispatcher."""
    folders: Mapped[int | None]
    """Stored folders of jobs and models, as counted by the last sweep."""
    checkpoints_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Jobs that ended until then were checked for leftover checkpoints."""


class Orphan(Base):
    """Mark on a folder of blobs that no row owns: the sweep deletes the folder days later."""

    __tablename__ = "orphans"

    prefix: Mapped[str] = mapped_column(String(80), primary_key=True)
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Claimed by one process, which deletes it. Kept for an hour, for the limit per hour."""


class WebhookSecret(Base):
    """What an owner's webhooks are signed with; a receiver has the same."""

    __tablename__ = "webhook_secrets"
    __table_args__ = (Index(None, "owner"),)

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    secret: Mapped[str] = mapped_column(String(80))
    """As it is: a signature can't be made with a hash."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Set when another has replaced it."""


class WebhookDelivery(Base):
    """News of a job's end that its webhook does not have yet."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (UniqueConstraint("job_id"), Index(None, "next_attempt_at"))

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[dict[str, Any]] = mapped_column(_Json)
    attempts: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s) for s in STATUSES)})", name="status"),
        # An owner's lists, and what counts against their quotas.
        Index(None, "owner", "created_at", "id"),
        Index(None, "owner", "status", "created_at", "id"),
        # Oldest queued first, the queue's positions and running ones.
        Index(None, "status", "created_at", "id"),
        Index(None, "finished_at"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    name: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    config: Mapped[dict[str, Any]] = mapped_column(_Json)
    classes: Mapped[list[dict[str, Any]]] = mapped_column(_Json)
    """[{name, images, test_images}]"""
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(_Json)
    """[{code, detail}]"""
    progress: Mapped[dict[str, Any] | None] = mapped_column(_Json)
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(40))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str | None] = mapped_column(Text)
    available_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """While the job is queued: no worker may start it before."""
    dispatched_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """While the job is queued: when its last message was sent. None: no message is out."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(_Json)
    model_id: Mapped[str | None] = mapped_column(_Id)
    webhook: Mapped[str | None] = mapped_column(Text)
    """The URL that is told of the end."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the first attempt began."""
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    image_bytes: Mapped[int] = mapped_column(BigInteger)
    reserved_bytes: Mapped[int] = mapped_column(BigInteger)
    """Room kept for its model until it has ended."""


class JobImage(Base):
    __tablename__ = "job_images"
    __table_args__ = (
        CheckConstraint("split IN ('train', 'test')", name="split"),
        UniqueConstraint("job_id", "position"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    position: Mapped[int]
    split: Mapped[str] = mapped_column(String(8))
    class_name: Mapped[str] = mapped_column(Text)
    file_name: Mapped[str] = mapped_column(Text)
    blob_key: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)


class JobEvent(Base):
    """What happened to a job, never changed: the user's log, and the oracle of the tests."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(_Json)


class Model(Base):
    __tablename__ = "models"
    __table_args__ = (Index(None, "owner", "created_at", "id"), UniqueConstraint("owner", "name", "version"))

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    name: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int | None]
    """Of the models with this name, in the order in which they got it; none without a name."""
    job_id: Mapped[str | None] = mapped_column(_Id)
    """No foreign key: a job may be deleted, its model stays. None: it was adapted elsewhere."""
    backbone: Mapped[str] = mapped_column(Text)
    image_size: Mapped[int | None]
    classes: Mapped[list[str]] = mapped_column(_Json)
    alpha: Mapped[float] = mapped_column(Double)
    templates: Mapped[list[str]] = mapped_column(_Json)
    prompts: Mapped[dict[str, list[str]]] = mapped_column(_Json)
    weights_key: Mapped[str] = mapped_column(Text)
    manifest_key: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    delta_format: Mapped[str] = mapped_column(String(8), server_default="full")
    """How the change of the backbone is stored."""
    metrics: Mapped[dict[str, Any] | None] = mapped_column(_Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ModelName(Base):
    """A name that models of an owner have or had, so that no version number comes twice."""

    __tablename__ = "model_names"

    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    last_version: Mapped[int]


class Alias(Base):
    """`name@alias`: a pointer to one of the models with this name."""

    __tablename__ = "aliases"
    __table_args__ = (Index(None, "model_id"),)

    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    alias: Mapped[str] = mapped_column(_Name, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    revision: Mapped[int]
    """Of the move that made it point there."""


class AliasMove(Base):
    """A promotion or a rollback of an alias, never changed."""

    __tablename__ = "alias_moves"
    __table_args__ = (
        ForeignKeyConstraint(
            ["owner", "name", "alias"], ["aliases.owner", "aliases.name", "aliases.alias"], ondelete="CASCADE"
        ),
    )

    owner: Mapped[str] = mapped_column(_Name, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    alias: Mapped[str] = mapped_column(_Name, primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(String(16))
    model_id: Mapped[str] = mapped_column(_Id)
    """No foreign key: a model that no alias points to any more may be deleted."""
    version: Mapped[int]
    back: Mapped[int | None]
    """The revision that a rollback from here returns to."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)
