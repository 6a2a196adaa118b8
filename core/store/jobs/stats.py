"""How much there is to do, and for how long it has waited: what the metrics read at each look."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import FAILED, QUEUED, STATUSES, Job, JobEvent


@dataclass(frozen=True)
class Backlog:
    jobs: dict[str, int]
    """By status; every status is there."""
    failures: dict[str, int]
    """The failed ones by the code of their error."""
    queue_age: float
    """Seconds that the job has waited which waits longest, since it was accepted or queued again."""
    dispatch_lag: float
    """Seconds since the oldest job became due that was not sent since. Much more than the time between two
    messages of a job tells of a dispatcher that is away, or of limits that hold jobs back."""


def backlog(session: Session, *, redispatch_seconds: float) -> Backlog:
    """`redispatch_seconds`: after these a message counts as lost, and its job is due again."""
    now = database_now(session)
    counts = {status: 0 for status in STATUSES}
    counts.update((s, n) for s, n in session.execute(select(Job.status, func.count()).group_by(Job.status)))
    failed = select(Job.error_code, func.count()).where(Job.status == FAILED).group_by(Job.error_code)
    queued = Job.status == QUEUED
    new = session.scalar(select(func.min(Job.created_at)).where(queued, Job.started_at.is_(None)))
    # Of the few that have run already, the last event of this kind says since when they wait.
    again = (
        select(func.max(JobEvent.at).label("at"))
        .join(Job, Job.id == JobEvent.job_id)
        .where(queued, Job.started_at.is_not(None), JobEvent.type == "requeued")
        .group_by(Job.id)
        .subquery()
    )
    requeued = session.scalar(select(func.min(again.c.at)))
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
