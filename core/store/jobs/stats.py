"""Statistics of the queue for the metrics: numbers of jobs, and their waiting times."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import FAILED, QUEUED, STATUSES, Job


@dataclass(frozen=True)
class Backlog:
    """Statistics of all jobs."""

    jobs: dict[str, int]
    """Number of jobs by status, for every status."""
    failures: dict[str, int]
    """Number of failed jobs by error code."""
    queue_age: float
    """Longest waiting time of a queued job, in seconds, since it was accepted or, if requeued, may start."""
    dispatch_lag: float
    """Longest time that a job has been due without a wake-up, in seconds.

    A lag well above `redispatch_seconds` means that the dispatcher is down, or that limits hold jobs back.
    """


def backlog(session: Session, *, redispatch_seconds: float) -> Backlog:
    """Return the statistics. After `redispatch_seconds` a wake-up counts as lost."""
    now = database_now(session)
    counts = session.execute(select(Job.status, func.count()).group_by(Job.status))
    failed = select(Job.error_code, func.count()).where(Job.status == FAILED).group_by(Job.error_code)
    # A requeued job is available again from then on.
    queued = select(func.min(Job.available_at)).where(Job.status == QUEUED)
    lost = select(func.min(Job.dispatched_at)).where(Job.status == QUEUED, Job.dispatched_at.is_not(None))
    lost_lag = _seconds(session.scalar(lost), now - timedelta(seconds=redispatch_seconds))
    return Backlog(
        jobs={**dict.fromkeys(STATUSES, 0), **{status: count for status, count in counts}},
        failures={code or "": count for code, count in session.execute(failed)},
        queue_age=_seconds(session.scalar(queued), now),
        dispatch_lag=max(_seconds(session.scalar(queued.where(Job.dispatched_at.is_(None))), now), lost_lag),
    )


def _seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
