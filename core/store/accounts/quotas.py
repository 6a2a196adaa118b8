"""Quotas per owner: queued jobs, models and stored bytes."""

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.settings import Settings
from core.store.db.tables import QUEUED, RUNNING, Job, Model


class QueueQuota(ClipCiteError):
    """Too many queued jobs. A retry can succeed once a job has started."""

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
    """Check that another job is within the quotas. The result is reliable only while the owner is locked.

    Until its model exists, a job counts as that model. `more_bytes` is the size of the new job.

    Raises:
        QueueQuota, ModelQuota, ByteQuota: a quota is exceeded.
    """
    theirs = select(func.count()).where(Job.owner == owner, Job.status == QUEUED)
    queued = session.scalar(theirs) or 0
    if 0 < settings.max_queued_jobs <= queued:
        raise QueueQuota(
            f"You have {queued} queued jobs, and the maximum is {settings.max_queued_jobs}. Send the request "
            "again when one has started, or cancel one with POST /jobs/{id}/cancel."
        )
    check_room(session, owner, settings, more_bytes=more_bytes)


def check_room(session: Session, owner: str, settings: Settings, *, more_bytes: int) -> None:
    """Check that another model is within the quotas. The result is reliable only while the owner is locked.

    Args:
        more_bytes: size of the new model, with the images of its job.

    Raises:
        ModelQuota, ByteQuota: a quota is exceeded.
    """
    if settings.max_models:
        without_model = (Job.owner == owner, Job.status.in_([QUEUED, RUNNING]), Job.model_id.is_(None))
        unfinished = session.scalar(select(func.count()).select_from(Job).where(*without_model)) or 0
        models = session.scalar(select(func.count()).select_from(Model).where(Model.owner == owner)) or 0
        if models + unfinished >= settings.max_models:
            raise ModelQuota(
                f"You have {models} models and {unfinished} unfinished jobs, and the maximum is "
                f"{settings.max_models} models. Delete a model with DELETE /models/{{id}} first."
            )
    if settings.max_stored_bytes:
        stored = stored_bytes(session, owner)
        if stored + more_bytes > settings.max_stored_bytes:
            raise ByteQuota(
                f"Your images and models take {stored:,} bytes and this request needs {more_bytes:,} more. "
                f"The maximum is {settings.max_stored_bytes:,}. Delete jobs with DELETE /jobs/{{id}} (their "
                "models are kept) or models with DELETE /models/{id} first."
            )


def stored_bytes(session: Session, owner: str) -> int:
    """Return the size of the owner's images and models, and of reservations by unfinished jobs."""
    reserved = case((Job.status.in_([QUEUED, RUNNING]), Job.reserved_bytes), else_=0)
    jobs = select(func.coalesce(func.sum(Job.image_bytes + reserved), 0)).where(Job.owner == owner)
    models = select(func.coalesce(func.sum(Model.bytes), 0)).where(Model.owner == owner)
    return int(session.scalars(jobs).one()) + int(session.scalars(models).one())


def expected_model_bytes(session: Session, backbone: str, delta_format: str) -> int:
    """Return the size of the largest model with this backbone and format so far, or 0 without any."""
    largest = select(func.max(Model.bytes)).where(
        Model.backbone == backbone, Model.delta_format == delta_format
    )
    return session.scalar(largest) or 0
