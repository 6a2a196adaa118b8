"""Database tables. A new column needs a migration: `alembic check` in the tests enforces it."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from core.store.db.base import ID, JSON_VALUE, NAME, Base, UtcDateTime, partial_index
from core.store.db.ids import new_webhook_secret

METADATA = Base.metadata
QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
STATUSES = (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
PREPARING, TRAINING, PUBLISHING, EVALUATING = "preparing", "training", "publishing", "evaluating"
STAGES = (PREPARING, TRAINING, PUBLISHING, EVALUATING)
"""Stages of a running job. From `evaluating` on, the job has a model."""
FEEDBACK = "feedback"
"""Split of a job's images that are corrections of its model."""


class Owner(Base):
    """Tenant of jobs and models, for example a team."""

    __tablename__ = "owners"

    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    served_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time at which a job of this owner last started, for the fair queue."""
    webhook_secret: Mapped[str] = mapped_column(String(80), default=new_webhook_secret)
    """Secret that signs the owner's webhooks. It is stored in plain text, because signing needs it."""


class ApiKey(Base):
    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("sha256"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    name: Mapped[str | None] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(String(16))
    """First characters of the key, for people. The key itself is not stored."""
    sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(JSON_VALUE)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of the last use, at minute resolution."""
    created_by: Mapped[str] = mapped_column(String(80))
    """Author (`Actor.key_id`)."""


class IdempotencyKey(Base):
    """Idempotency key of a request, so that a retry creates no second job."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ID)
    """Id of the job. This is not a foreign key, because a retry must not recreate a deleted job."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Deletion(Base):
    """Folder or file in the storage that will be deleted (`storage.deletions`)."""

    __tablename__ = "deletions"

    prefix: Mapped[str] = mapped_column(String(80), primary_key=True)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of the deletion, unless a job or a model that owns the blobs is created before. None: at once."""


class Installation(Base):
    """Single row with the installation's id. `installation.json` in the storage repeats the id."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    hold_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time until which a backup in progress forbids deleting blobs."""
    clock_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Trusted time. It follows the clock in small steps."""
    default_backbone: Mapped[str | None] = mapped_column(Text)
    """Default backbone, unless the environment sets it. None: the starter."""


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s) for s in STATUSES)})", name="status"),
        # For an owner's lists and quotas.
        Index(None, "owner", "created_at", "id"),
        Index(None, "owner", "status", "created_at", "id"),
        # For the queue and its metrics.
        # Without `status` among its columns, SQLite would prefer the next index.
        partial_index("status = 'queued'", "status", "owner", "created_at", "id"),
        Index(None, "status", "created_at", "id"),
        partial_index("status = 'queued'", "available_at"),
        partial_index("status = 'queued' AND dispatched_at IS NOT NULL", "dispatched_at"),
        partial_index("status = 'failed'", "error_code"),
        Index(None, "finished_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    name: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    config: Mapped[dict[str, Any]] = mapped_column(JSON_VALUE)
    classes: Mapped[list[dict[str, Any]]] = mapped_column(JSON_VALUE)
    """[{name, images, test_images}]"""
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSON_VALUE)
    """[{code, detail}]"""
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON_VALUE)
    attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(40))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str | None] = mapped_column(Text)
    available_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """Time at which the job was last queued, for example after a lost lease."""
    dispatched_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of the last wake-up for a queued job. None: no wake-up is in transit."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSON_VALUE)
    model_id: Mapped[str | None] = mapped_column(ID)
    """Model of the job. Once it is set, any attempt only evaluates the model."""
    report_key: Mapped[str | None] = mapped_column(Text)
    """Blob key of the report. None: no report."""
    webhook: Mapped[str | None] = mapped_column(Text)
    """URL that is notified when the job has a model, and when it ends."""
    request_id: Mapped[str | None] = mapped_column(NAME)
    """Id of the request that created the job."""
    created_by: Mapped[str] = mapped_column(String(80))
    """Author (`Actor.key_id`)."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Start of the first attempt."""
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    image_bytes: Mapped[int] = mapped_column(BigInteger)
    reserved_bytes: Mapped[int] = mapped_column(BigInteger)
    """Bytes that are reserved for the model until it is published or the job ends."""


class JobImage(Base):
    __tablename__ = "job_images"
    __table_args__ = (
        CheckConstraint("split IN ('train', 'test', 'feedback')", name="split"),
        UniqueConstraint("job_id", "position"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    position: Mapped[int]
    split: Mapped[str] = mapped_column(String(8))
    class_name: Mapped[str] = mapped_column(Text)
    file_name: Mapped[str] = mapped_column(Text)
    blob_key: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    label_confirmed: Mapped[bool] = mapped_column(default=False)
    """True if the user set or confirmed this label. It is then never reported as a label issue."""
    stats: Mapped[dict[str, Any] | None] = mapped_column(JSON_VALUE)
    """Statistics (`clipcite.types.images.ImageStats`). None: an older version stored the image."""
    created_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of a correction. None: the image came with the job."""


class JobEvent(Base):
    """Immutable event of a job."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(JSON_VALUE)


class WebhookDelivery(Base):
    """Webhook message that was not accepted yet. It says that a job has a model, or has ended."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "job_id"), Index(None, "next_attempt_at"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    body: Mapped[dict[str, Any]] = mapped_column(JSON_VALUE)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Model(Base):
    __tablename__ = "models"
    __table_args__ = (
        Index(None, "owner", "created_at", "id"),
        UniqueConstraint("owner", "name", "version"),
        Index(None, "backbone", "delta_format", "bytes"),  # for the expected size of the next model
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    name: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int | None]
    """Version among the models with this name, in the order of naming. None: no name."""
    job_id: Mapped[str | None] = mapped_column(ID)
    """Job that trained the model. None: imported. This is not a foreign key, because models outlive jobs."""
    backbone: Mapped[str] = mapped_column(Text)
    image_size: Mapped[int | None]
    classes: Mapped[list[str]] = mapped_column(JSON_VALUE)
    alpha: Mapped[float] = mapped_column(Double)
    templates: Mapped[list[str]] = mapped_column(JSON_VALUE)
    prompts: Mapped[dict[str, list[str]]] = mapped_column(JSON_VALUE)
    weights_key: Mapped[str] = mapped_column(Text)
    manifest_key: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    delta_format: Mapped[str] = mapped_column(String(8))
    """Storage format of the delta."""
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSON_VALUE)
    promoted: Mapped[bool | None]
    """Whether the name may refer to the model. None until its job has ended (`registry.models.resolve`)."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(String(80))
    """Author of the model, or of its job (`Actor.key_id`)."""


class ModelName(Base):
    """Name that an owner's models have or had. The row ensures that versions are never reused."""

    __tablename__ = "model_names"

    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    last_version: Mapped[int]


class Alias(Base):
    """Pointer `name@alias` to one of the models with this name."""

    __tablename__ = "aliases"
    __table_args__ = (Index(None, "model_id"),)

    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    alias: Mapped[str] = mapped_column(NAME, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    revision: Mapped[int]
    """Number of the alias's last move."""


class AliasMove(Base):
    """Immutable record of a promotion or a rollback of an alias."""

    __tablename__ = "alias_moves"
    __table_args__ = (
        ForeignKeyConstraint(
            ["owner", "name", "alias"], ["aliases.owner", "aliases.name", "aliases.alias"], ondelete="CASCADE"
        ),
    )

    owner: Mapped[str] = mapped_column(NAME, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    alias: Mapped[str] = mapped_column(NAME, primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(String(16))
    model_id: Mapped[str] = mapped_column(ID)
    """Id of the model. This is not a foreign key, because a model without aliases may be deleted."""
    version: Mapped[int]
    back: Mapped[int | None]
    """Revision to which a rollback from here returns."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class Pile(Base):
    """Images that wait for labels (`core.store.piles`)."""

    __tablename__ = "piles"
    __table_args__ = (Index(None, "owner", "created_at", "id"), Index(None, "used_at"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.name"))
    name: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    """Reference of the model that sorts the pile."""
    class_names: Mapped[list[Any] | None] = mapped_column(JSON_VALUE)
    """Class names of the sort, as in a request. None: the model's."""
    keeps_images: Mapped[bool]
    revision: Mapped[int]
    """Grows with each change."""
    images: Mapped[int]
    labelled: Mapped[int]
    none: Mapped[int]
    drawn: Mapped[int]
    """Numbers of images: all, with a label, of these none of the classes, of these drawn at random."""
    used_names: Mapped[dict[str, int]] = mapped_column(JSON_VALUE)
    """Number of labels of each class that was ever named, in the order of the first answer."""
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Size of the copies, the features and the rows."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """Time of the last use, at hour resolution."""
    created_by: Mapped[str] = mapped_column(String(80))


class PileImage(Base):
    __tablename__ = "pile_images"
    __table_args__ = (UniqueConstraint("pile_id", "sha256"), Index(None, "sha256"))

    pile_id: Mapped[str] = mapped_column(ForeignKey("piles.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(String(64))
    """Hash of the file as it was sent."""
    file: Mapped[str] = mapped_column(Text)
    """Path below the folder."""
    blob_key: Mapped[str | None] = mapped_column(Text)
    """Key of the reduced copy. None: only features are kept."""
    blob_sha256: Mapped[str | None] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Size of the reduced copy."""


class PileFeatures(Base):
    """Features of some images of a pile, for one model."""

    __tablename__ = "pile_features"
    __table_args__ = (Index(None, "pile_id", "model_key"),)

    blob_key: Mapped[str] = mapped_column(String(120), primary_key=True)
    """Key of float16 rows [N, D] in the format of NumPy."""
    pile_id: Mapped[str] = mapped_column(ForeignKey("piles.id", ondelete="CASCADE"))
    model_key: Mapped[str] = mapped_column(Text)
    """Key of the weights and alpha (`ServedModel.key`)."""
    positions: Mapped[list[int]] = mapped_column(JSON_VALUE)
    """Position of the image of each row."""
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)


class PileAnswer(Base):
    """Immutable answer of a person about an image of a pile."""

    __tablename__ = "pile_answers"
    __table_args__ = (Index(None, "pile_id", "position", "seq"),)

    pile_id: Mapped[str] = mapped_column(ForeignKey("piles.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]
    said: Mapped[str] = mapped_column(String(16))
    class_name: Mapped[str | None] = mapped_column(Text)
    how: Mapped[str] = mapped_column(String(16))
    created_by: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BackbonePull(Base):
    """Requested download of a backbone. The row is deleted once the backbone is installed."""

    __tablename__ = "backbone_pulls"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    use: Mapped[bool]
    """True if the backbone becomes the default."""
    error: Mapped[str | None] = mapped_column(Text)
    """Error of the last try. None: the download is due or in progress."""
