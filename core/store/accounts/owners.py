"""Owners: whose jobs and models they are, and how much of the service they may take."""

import re
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, case, func, or_, select
from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.settings import Settings
from core.store.db.session import database_now
from core.store.db.tables import QUEUED, RUNNING, Job, Model, Owner

DEFAULT_OWNER = "default"
"""Of everything that comes in without a key, or with CLIPCITE_API_KEY."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class InvalidOwner(ClipCiteError):
    code = "invalid_owner"
    status = 422


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


def ensure(session: Session, name: str) -> None:
    """Make the owner if they are new. Raises InvalidOwner."""
    if not _NAME.fullmatch(name):
        raise InvalidOwner(
            f"An owner's name is 1 to 64 of a-z, 0-9, '.', '_' and '-' and begins with a letter or a digit; "
            f"{name!r} is none."
        )
    if session.get(Owner, name) is None:
        session.add(Owner(name=name, created_at=database_now(session)))
        session.flush()


def lock(session: Session, name: str) -> Owner:
    """Until this transaction ends no other admits or starts a job of theirs.

    Not the strongest lock: rows that refer to the owner's may be written meanwhile.
    """
    return session.scalars(
        select(Owner).where(Owner.name == name).with_for_update(key_share=True),
        execution_options={"populate_existing": True},
    ).one()


def check_quotas(session: Session, owner: str, settings: Settings, *, more_bytes: int) -> None:
    """Whether one more job fits in. Certain only while the owner is locked.

    An unfinished job counts as the model that it will make. `more_bytes` are those of the new job.

    Raises:
        QueueQuota, ModelQuota, ByteQuota: what has to happen first.
    """
    queued = _count(session, owner, QUEUED)
    if 0 < settings.max_queued_jobs <= queued:
        raise QueueQuota(
            f"{queued} of your jobs are waiting, and no more than {settings.max_queued_jobs} may. Send it "
            "again when one has begun, or cancel one with POST /jobs/{id}/cancel."
        )
    check_room(session, owner, settings, more_bytes=more_bytes)


def check_room(session: Session, owner: str, settings: Settings, *, more_bytes: int) -> None:
    """Whether one more model fits in, of so many bytes (pictures to make it from included). Certain only
    while the owner is locked. Raises ModelQuota, ByteQuota."""
    if settings.max_models:
        queued, running = (_count(session, owner, status) for status in (QUEUED, RUNNING))
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
                f"Your pictures and models take {stored:,} bytes and this needs {more_bytes:,} more; at most "
                f"{settings.max_stored_bytes:,} are allowed. Remove jobs with DELETE /jobs/{{id}} (their "
                "models stay) or models with DELETE /models/{id} first."
            )


def stored_bytes(session: Session, owner: str) -> int:
    """Pictures, models, and the room that unfinished jobs have reserved."""
    reserved = case((Job.status.in_([QUEUED, RUNNING]), Job.reserved_bytes), else_=0)
    jobs = select(func.coalesce(func.sum(Job.picture_bytes + reserved), 0)).where(Job.owner == owner)
    models = select(func.coalesce(func.sum(Model.bytes), 0)).where(Model.owner == owner)
    return int(session.scalars(jobs).one()) + int(session.scalars(models).one())


def expected_model_bytes(session: Session, backbone: str, weights: str) -> int:
    """As large as the largest model of this backbone so far that is stored alike; 0 before there is one."""
    alike = select(func.max(Model.bytes)).where(Model.backbone == backbone, Model.weights == weights)
    return session.scalar(alike) or 0


def may_start(session: Session, owner: str, max_running: int) -> bool:
    """Whether one more job of theirs may run (0: any number). Certain only while the owner is locked."""
    return max_running == 0 or _count(session, owner, RUNNING) < max_running


def due(at: datetime, lost_before: datetime) -> tuple[ColumnElement[bool], ...]:
    """Conditions for a queued job to be sent now: it may start, and no message of it is on its way."""
    return Job.available_at <= at, or_(Job.dispatched_at.is_(None), Job.dispatched_at <= lost_before)


def fair_queue(at: datetime | None = None, lost_before: datetime | None = None) -> Subquery:
    """The queued jobs as `id, owner, turn, place`: who of them is next, and after whom.

    `turn` is how many jobs of its owner would run if this one and those before it were started. The
    lowest turn is next: the job of whoever has the fewest running. Between equals it's the owner who
    was served longest ago, then the oldest job. With both times only jobs that are `due` stand in line,
    and those on their way to a worker count as running.
    """
    busy: ColumnElement[bool] = Job.status == RUNNING
    waiting: ColumnElement[bool] = Job.status == QUEUED
    if at is not None and lost_before is not None:
        busy = or_(busy, and_(Job.status == QUEUED, Job.dispatched_at > lost_before))
        waiting = and_(waiting, *due(at, lost_before))
    load = select(Job.owner, func.count().label("jobs")).where(busy).group_by(Job.owner).subquery()
    oldest: Any = (Job.created_at, Job.id)
    rank = func.row_number().over(partition_by=Job.owner, order_by=oldest)
    line = (
        select(
            Job.id,
            Job.owner,
            Job.created_at,
            (rank + func.coalesce(load.c.jobs, 0)).label("turn"),
            Owner.served_at,
        )
        .join(Owner, Owner.name == Job.owner)
        .outerjoin(load, load.c.owner == Job.owner)
        .where(waiting)
        .subquery()
    )
    order = (line.c.turn, line.c.served_at.asc().nulls_first(), line.c.created_at, line.c.id)
    place = func.row_number().over(order_by=order).label("place")
    return select(line.c.id, line.c.owner, line.c.turn, place).subquery()


def _count(session: Session, owner: str, status: str) -> int:
    counted = select(func.count()).select_from(Job).where(Job.owner == owner, Job.status == status)
    return session.scalar(counted) or 0
