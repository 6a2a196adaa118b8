"""Quotas of an owner: queued jobs, models, stored bytes."""

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.settings import Settings
from core.store.db.tables import QUEUED, RUNNING, Job, Model


class QueueQuota(ClipCiteError):
    """Passes by itself, when the queue has moved on."""

    code = "quota_queued_jobs"
    status = 429
    retry_after = 30


class ModelQuota(ClipCiteError):
    code = "quota_models"
    status = 409


class ByteQuota(ClipCiteError):
    code = "quota_stored_bytes"
    status = 507


def check_quotas(session: Session, owner: str, settings: Settings, *, more_bytes: int) -> None:
    """Whether one more job fits in. Certain only while the owner is locked.

    An unfinished job counts as the model that it will make. `more_bytes` are those of the new job.

    Raises:
        QueueQuota, ModelQuota, ByteQuota: what has to happen first.
    """
    queued = count_jobs(session, owner, QUEUED)
    if 0 < settings.max_queued_jobs <= queued:
        raise QueueQuota(
            f"{queued} of your jobs are waiting, and no more than {settings.max_queued_jobs} may. Send it "
            "again when one has begun, or cancel one with POST /jobs/{id}/cancel."
        )
    check_room(session, owner, settings, more_bytes=more_bytes)


def check_room(session: Session, owner: str, settings: Settings, *, more_bytes: int) -> None:
    """Whether one more model fits in, of so many bytes (images to make it from included). Certain only
    while the owner is locked. Raises ModelQuota, ByteQuota."""
    if settings.max_models:
        queued, running = (count_jobs(session, owner, status) for status in (QUEUED, RUNNING))
        models = session.scalar(select(func.count()).select_from(Model).where(Model.owner == owner)) or 0
        if models + queued + running >= settings.max_models:
            raise ModelQuota(
                f"You have {models} models and {queued + running} jobs that will make one; at most "
                f"{settings.max_models} are allowed. Remove a model with DELETE /models/{{id}} first."
            )
    if settings.max_stored_bytes:
        stored = stored_bytes(session, owner)
        if stored + more_bytes > settings.max_stored_bytes:
            raise ByteQuota(
                f"Your images and models take {stored:,} bytes and this needs {more_bytes:,} more; at most "
                f"{settings.max_stored_bytes:,} are allowed. Remove jobs with DELETE /jobs/{{id}} (their "
                "models stay) or models with DELETE /models/{id} first."
            )


def stored_bytes(session: Session, owner: str) -> int:
    """Images, models, and the room that unfinished jobs have reserved."""
    reserved = case((Job.status.in_([QUEUED, RUNNING]), Job.reserved_bytes), else_=0)
    jobs = select(func.coalesce(func.sum(Job.image_bytes + reserved), 0)).where(Job.owner == owner)
    models = select(func.coalesce(func.sum(Model.bytes), 0)).where(Model.owner == owner)
    return int(session.scalars(jobs).one()) + int(session.scalars(models).one())


def expected_model_bytes(session: Session, backbone: str, delta_format: str) -> int:
    """As large as the largest model of this backbone so far that is stored alike; 0 before there is one."""
    alike = select(func.max(Model.bytes)).where(
        Model.backbone == backbone, Model.delta_format == delta_format
    )
    return session.scalar(alike) or 0


def count_jobs(session: Session, owner: str, status: str) -> int:
    counted = select(func.count()).select_from(Job).where(Job.owner == owner, Job.status == status)
    return session.scalar(counted) or 0
