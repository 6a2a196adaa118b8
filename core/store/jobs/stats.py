"""Statistics of the queue for the metrics: numbers of jobs, and their waiting times."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import FAILED, QUEUED, STATUSES, Job, JobEvent


@dataclass(frozen=True)
class Backlog:
    """Statistics of all jobs."""

    jobs: dict[str, int]
    """Number of jobs by status, for every status."""
    failures: dict[str, int]
    """Number of failed jobs by error code."""
    queue_age: float
    """Longest waiting time of a queued job, in seconds, since it was accepted or requeued."""
    dispatch_lag: float
    """Longest time that a job has been due without a wake-up, in seconds.

    A lag well above `redispatch_seconds` means that the dispatcher is down, or that limits hold jobs back.
    """


def backlog(session: Session, *, redispatch_seconds: float) -> Backlog:
    """Return the statistics. After `redispatch_seconds` a wake-up counts as lost."""
    now = database_now(session)
    counts = {status: 0 for status in STATUSES}
    counts.update((s, n) for s, n in session.execute(select(Job.status, func.count()).group_by(Job.status)))
    failed = select(Job.error_code, func.count()).where(Job.status == FAILED).group_by(Job.error_code)
    queued = Job.status == QUEUED
    new = session.scalar(select(func.min(Job.created_at)).where(queued, Job.started_at.is_(None)))
    # The few jobs that ran before have waited since their last requeue.
    last_requeue = (
        select(func.max(JobEvent.at).label("at"))
        .join(Job, Job.id == JobEvent.job_id)
        .where(queued, Job.started_at.is_not(None), JobEvent.type == "requeued")
        .group_by(Job.id)
        .subquery()
    )
    requeued = session.scalar(select(func.min(last_requeue.c.at)))
    new_due = select(func.min(Job.available_at)).where(queued, Job.dispatched_at.is_(None))
    lost = select(func.min(Job.dispatched_at)).where(queued)
    lost_lag = _seconds(session.scalar(lost), now - timedelta(seconds=redispatch_seconds))
    return Backlog(
        jobs=counts,
        failures={code or "": count for code, count in session.execute(failed)},
        queue_age=max(_seconds(new, now), _seconds(requeued, now)),
        dispatch_lag=max(_seconds(session.scalar(new_due), now), lost_lag),
    )


def _seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
