"""Retention: deletion of old jobs, by the database's clock."""

import logging
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import FINAL, Job, Model
from core.store.jobs import jobs
from core.store.storage import deletions, installation

BATCH = 50
"""Maximum number of jobs that one transaction deletes."""
CLOCK_STEP, CLOCK_LEAD = timedelta(hours=1), timedelta(days=1)
"""Largest step of the trusted time, and largest lead over it at which the clock is trusted."""
logger = logging.getLogger(__name__)


def trusts_clock(session: Session) -> bool:
    """Return whether the clock is at most CLOCK_LEAD ahead of the trusted time. Only then may it decide age.

    The trusted time follows the clock by at most CLOCK_STEP per call, and each dispatcher calls once a
    minute. So a clock that is briefly set ahead deletes nothing. After a pause of the service, a correct
    clock is trusted again soon: after 3 hours for a pause of a week.
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
        "The clock is far ahead of %s, when this service last ran, so old data is not deleted. Correct the "
        "clock if it is wrong. If it is right, for example after a long pause, wait: each hour of the pause "
        "takes a minute.",
        row.clock_at and row.clock_at.isoformat(timespec="minutes"),
    )


def _newest(session: Session) -> datetime:
    """Return the time of the newest row, for use before any dispatcher has stored a time."""
    times = [session.scalar(select(func.max(at))) for at in (Job.created_at, Model.created_at)]
    return max(time for time in (*times, installation.find(session).created_at) if time is not None)


def delete_jobs(session: Session, older_than: timedelta) -> list[str]:
    """Delete a batch of jobs that ended longer ago. Return the folders to delete after the commit."""
    before = database_now(session) - older_than
    old = session.scalars(
        select(Job)
        .where(Job.finished_at < before, Job.status.in_(FINAL))
        .order_by(Job.finished_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    for job in old:
        session.delete(job)  # foreign keys cascade to images, events and deliveries
        deletions.mark_for_deletion(session, jobs.blobs_of(job.id))
    return [jobs.blobs_of(job.id) for job in old]
