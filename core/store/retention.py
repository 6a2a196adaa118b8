"""Retention: deletion of old jobs, images, events, models, audit entries and webhook deliveries.

Each function handles one batch in one transaction, by the database's clock. The caller repeats it until
nothing is left. What is gone is not in the audit log: settings decide it.
"""

import logging
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, exists, func, select, update
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.session import database_now
from core.store.db.tables import (
    FINAL,
    QUEUED,
    RUNNING,
    Alias,
    AuditEntry,
    Job,
    JobEvent,
    JobImage,
    Model,
    WebhookDelivery,
)
from core.store.jobs import jobs
from core.store.registry import models
from core.store.storage import deletions, installation

ROWS, JOBS, FOLDERS = 1_000, 200, 50
"""Batch sizes: rows without files, jobs without their files, and folders of files."""
QUIET = {"synchronize_session": False}
CLOCK_STEP, CLOCK_LEAD = timedelta(hours=1), timedelta(days=1)
"""Largest step of the trusted time, and largest lead of the clock that is trusted."""
logger = logging.getLogger(__name__)


def trusts_clock(session: Session) -> bool:
    """Return whether the clock may decide what is old: it is at most CLOCK_LEAD ahead of the trusted time.

    The trusted time follows the clock by at most CLOCK_STEP per call. Each dispatcher calls this function
    once a minute, so that a clock which was set ahead and back deletes nothing, and one that is right after a
    pause of the service, for example a week, is trusted again soon (after 3 hours).
    """
    row = installation.find(session, lock=True)
    now = database_now(session)
    trusted = row.clock_at or _newest(session)
    row.clock_at = min(now, trusted + CLOCK_STEP)
    session.flush()
    return now <= trusted + CLOCK_LEAD


def warn_of_clock(session: Session) -> None:
    """Log why nothing is deleted."""
    row = installation.find(session)
    logger.warning(
        "The clock is far ahead of %s, when this service last ran, so nothing is deleted because of its age. "
        "Correct the clock if it is wrong. Otherwise, for example after a long pause, this ends by itself, a "
        "minute for each hour.",
        row.clock_at and row.clock_at.isoformat(timespec="minutes"),
    )


def _newest(session: Session) -> datetime:
    """Return the time of the newest row, where no dispatcher has noted a time yet."""
    times = [session.scalar(select(func.max(at))) for at in (Job.created_at, Model.created_at, AuditEntry.at)]
    return max(time for time in (*times, installation.find(session).created_at) if time is not None)


def delete_jobs(session: Session, older_than: timedelta) -> list[str]:
    """Delete jobs that ended before this period. Return the folders to delete after the commit."""
    before = database_now(session) - older_than
    old = session.scalars(
        select(Job)
        .where(Job.finished_at < before, Job.status.in_(FINAL))
        .order_by(Job.finished_at)
        .limit(FOLDERS)
        .with_for_update(skip_locked=True)
    ).all()
    for job in old:
        session.delete(job)  # foreign keys cascade to images, events and deliveries
        deletions.mark_for_deletion(session, jobs.blobs_of(job.id))
    return [jobs.blobs_of(job.id) for job in old]


def delete_models(session: Session, older_than: timedelta) -> list[str]:
    """Delete models without an alias that were not used in this period. Return the folders to delete.

    A model that was never used counts from its creation. Models of unfinished jobs stay.
    """
    before = database_now(session) - older_than
    unused = (
        func.coalesce(Model.last_used_at, Model.created_at) < before,
        ~exists().where(Alias.model_id == Model.id),
        ~exists().where(Job.model_id == Model.id, Job.status.in_([QUEUED, RUNNING])),
    )
    rows = session.execute(select(Model.id, Model.owner).where(*unused).limit(FOLDERS)).all()
    for owner in sorted({row.owner for row in rows}):
        owners.lock(session, owner)  # excludes a promotion
    ids = [row.id for row in rows]
    gone = session.scalars(
        delete(Model).where(Model.id.in_(ids), *unused).returning(Model.id), execution_options=QUIET
    ).all()
    for model_id in gone:
        deletions.mark_for_deletion(session, models.blobs_of(model_id))
    return [models.blobs_of(model_id) for model_id in gone]


def delete_images(session: Session, older_than: timedelta) -> list[str]:
    """Delete the images of the next jobs that ended before this period. The jobs stay.

    Returns:
        Prefixes to delete after the commit. A backup that begins in between has none of these images.
    """
    row = installation.find(session, lock=True)
    old = _ended(session, database_now(session) - older_than, row.images_until, FOLDERS)
    ids = [job_id for job_id, _ in old]
    session.execute(delete(JobImage).where(JobImage.job_id.in_(ids)), execution_options=QUIET)
    session.execute(update(Job).where(Job.id.in_(ids)).values(image_bytes=0), execution_options=QUIET)
    prefixes = [f"{jobs.blobs_of(job_id)}{deletions.IMAGES}" for job_id in ids]
    for prefix in prefixes:
        deletions.mark_for_deletion(session, prefix)
    if old:
        row.images_until = old[-1][1]
    return prefixes


def delete_events(session: Session, older_than: timedelta) -> int:
    """Delete the events of the next jobs that ended before this period, but their end. Return the jobs."""
    row = installation.find(session, lock=True)
    old = _ended(session, database_now(session) - older_than, row.events_until, JOBS)
    ids = [job_id for job_id, _ in old]
    session.execute(
        delete(JobEvent).where(JobEvent.job_id.in_(ids), JobEvent.type.not_in(FINAL)), execution_options=QUIET
    )
    if old:
        row.events_until = old[-1][1]
    return len(old)


def delete_audit(session: Session, older_than: timedelta) -> int:
    """Delete the oldest entries of the audit log. Return their number."""
    before = database_now(session) - older_than
    old = select(AuditEntry.id).where(AuditEntry.at < before).order_by(AuditEntry.at).limit(ROWS)
    return _delete_rows(session, AuditEntry, old)


def delete_deliveries(session: Session, older_than: timedelta) -> int:
    """Delete webhook deliveries that ended before this period. Return their number."""
    before = database_now(session) - older_than
    old = select(WebhookDelivery.id).where(WebhookDelivery.finished_at < before).limit(ROWS)
    return _delete_rows(session, WebhookDelivery, old)


def _ended(
    session: Session, before: datetime, since: datetime | None, limit: int
) -> list[tuple[str, datetime]]:
    """Return the next jobs that ended before this time and after `since`, with their end, oldest first.

    Jobs that ended in the same moment as the last one are included, so that `since` misses none.
    """
    old = select(Job.id, Job.finished_at).where(Job.finished_at < before, Job.status.in_(FINAL))
    if since is not None:
        old = old.where(Job.finished_at > since)
    last = old.order_by(Job.finished_at).limit(limit).subquery()
    until = select(func.max(last.c.finished_at)).scalar_subquery()
    rows = session.execute(old.where(Job.finished_at <= until).order_by(Job.finished_at))
    return [(job_id, at) for job_id, at in rows if at is not None]


def _delete_rows(session: Session, table: type[AuditEntry] | type[WebhookDelivery], ids: Select[str]) -> int:
    gone = session.scalars(
        delete(table).where(table.id.in_(ids)).returning(table.id), execution_options=QUIET
    )
    return len(gone.all())
