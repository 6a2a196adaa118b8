"""Quota of stored bytes per owner."""

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from clipcite.types.problems import ProblemAction
from core.errors import ExpectedError
from core.settings import Settings
from core.store import piles
from core.store.db.tables import QUEUED, RUNNING, Job, Model


class ByteQuota(ExpectedError):
    code = "quota_stored_bytes"
    status = 507


def check_quota(session: Session, owner: str, settings: Settings, *, more_bytes: int) -> None:
    """Check that the owner may store `more_bytes`. The owner must be locked.

    Raises:
        ByteQuota: the bytes exceed the quota.
    """
    if settings.max_stored_bytes:
        stored = stored_bytes(session, owner)
        if stored + more_bytes > settings.max_stored_bytes:
            raise ByteQuota(
                f"Your images, models and piles take {stored:,} bytes and this request needs {more_bytes:,} "
                f"more. The maximum is {settings.max_stored_bytes:,}. Delete jobs with ",
                ProblemAction.of("DELETE /jobs/{job_id}"),
                " (their models are kept), models with ",
                ProblemAction.of("DELETE /models/{model_id}"),
                " or piles with ",
                ProblemAction.of("DELETE /piles/{pile_id}"),
                " first.",
            )


def stored_bytes(session: Session, owner: str) -> int:
    """Return the bytes of the owner's images, models and piles, and those that unfinished jobs reserve."""
    reserved = case((Job.status.in_([QUEUED, RUNNING]), Job.reserved_bytes), else_=0)
    jobs = select(func.coalesce(func.sum(Job.image_bytes + reserved), 0)).where(Job.owner == owner)
    models = select(func.coalesce(func.sum(Model.bytes), 0)).where(Model.owner == owner)
    held = int(session.scalars(jobs).one()) + int(session.scalars(models).one())
    return held + piles.stored_bytes(session, owner)


def expected_model_bytes(session: Session, backbone: str, delta_format: str) -> int:
    """Return the size of the largest existing model with this backbone and format, or 0."""
    largest = select(func.max(Model.bytes)).where(
        Model.backbone == backbone, Model.delta_format == delta_format
    )
    return session.scalar(largest) or 0
