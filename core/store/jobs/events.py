"""A job's events: what happened to it, numbered, written in the transactions that made it happen.

Whoever wants to follow a job reads what is greater than the last number seen; the database is the
only channel, so that any API process can tell of any worker. The row of the job is locked while an
event is added: numbers become visible in their order, and none is missed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import FINAL, Job, JobEvent
from core.store.jobs.transitions import append_event

PROGRESS = "progress"
PROGRESS_KEPT = timedelta(days=7)
_AT_ONCE = 500  # jobs in one statement


def record_progress(session: Session, job: Job, progress: dict[str, Any], *, at: datetime) -> None:
    """An event that replaces the one before it, as long as both are of the same percent of the same
    stage: about a hundred stay of an attempt, however long it takes. The job's row is locked, and
    `job.progress` is still the former one."""
    former = None
    if job.progress is not None and _place(job.progress) == _place(progress):
        rows = select(func.max(JobEvent.seq)).where(JobEvent.job_id == job.id, JobEvent.type == PROGRESS)
        former = session.scalar(rows)
    append_event(session, job.id, at=at, type=PROGRESS, data=progress)
    if former is not None:  # only now: the new number must exceed the former one
        session.execute(
            delete(JobEvent).where(JobEvent.job_id == job.id, JobEvent.seq == former),
            execution_options={"synchronize_session": False},
        )


def after(session: Session, job_id: str, seq: int) -> list[JobEvent]:
    """Those with a greater number, in order."""
    later = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    return list(session.scalars(later.order_by(JobEvent.seq)))


def last_seq(session: Session, job_id: str) -> int:
    """The number of the newest event; 0 if there is no such job."""
    return session.scalar(select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id)) or 0


def end_seq(session: Session, job_id: str) -> int | None:
    """The number of the event that the job ended with. Later ones tell of its webhook."""
    return session.scalar(
        select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id, JobEvent.type.in_(FINAL))
    )


def newer(session: Session, seen: Mapping[str, int]) -> dict[str, list[JobEvent]]:
    """For each job its events after the number in `seen`, in order. A job that is gone is missing."""
    ids = list(seen)
    last: dict[str, int] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = JobEvent.job_id.in_(ids[start : start + _AT_ONCE])
        rows = select(JobEvent.job_id, func.max(JobEvent.seq)).where(some).group_by(JobEvent.job_id)
        last.update((job_id, seq) for job_id, seq in session.execute(rows))
    return {
        job_id: after(session, job_id, seen[job_id]) if seq > seen[job_id] else []
        for job_id, seq in last.items()
    }


def prune_progress(session: Session, *, kept: timedelta = PROGRESS_KEPT) -> int:
    """Drop the progress of jobs that ended longer ago than that; what else happened stays as long as
    the job. Returns how many events are gone."""
    ended = select(Job.id).where(Job.finished_at < database_now(session) - kept)
    gone = session.execute(
        delete(JobEvent).where(JobEvent.type == PROGRESS, JobEvent.job_id.in_(ended)).returning(JobEvent.seq),
        execution_options={"synchronize_session": False},
    )
    return len(gone.all())


def _place(progress: dict[str, Any]) -> tuple[Any, int]:
    return progress.get("stage"), int(100 * (progress.get("fraction") or 0))
