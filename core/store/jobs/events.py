"""Events of a job, numbered, written in the same transactions as the changes that they describe.

A reader follows a job by reading events after the last number that it has seen. The database is the only
channel, so any API process can report on any worker. The job's row is locked while an event is appended, so
numbers become visible in order and readers miss none.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.store.db.tables import FINAL, Job, JobEvent
from core.store.jobs.transitions import append_event

PROGRESS = "progress"


def record_progress(session: Session, job: Job, progress: dict[str, Any], *, at: datetime) -> None:
    """Append a progress event, and delete the previous one if it has the same stage and percent.

    About a hundred events remain, regardless of the job's duration. The job's row must be locked, and
    `job.progress` must still be the previous progress.
    """
    previous = None
    if job.progress is not None and _stage_and_percent(job.progress) == _stage_and_percent(progress):
        rows = select(func.max(JobEvent.seq)).where(JobEvent.job_id == job.id, JobEvent.type == PROGRESS)
        previous = session.scalar(rows)
    append_event(session, job.id, at=at, type=PROGRESS, data=progress)
    if previous is not None:  # after the append, so that the new number exceeds the previous one
        session.execute(
            delete(JobEvent).where(JobEvent.job_id == job.id, JobEvent.seq == previous),
            execution_options={"synchronize_session": False},
        )


def after(session: Session, job_id: str, seq: int) -> list[JobEvent]:
    """Return the events with a greater number than `seq`, in order."""
    later = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    return list(session.scalars(later.order_by(JobEvent.seq)))


def last_seq(session: Session, job_id: str) -> int:
    """Return the number of the newest event, or 0 if there is no such job."""
    return session.scalar(select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id)) or 0


def end_seq(session: Session, job_id: str) -> int | None:
    """Return the number of the job's final event, or None. Later events are about its webhook."""
    return session.scalar(
        select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id, JobEvent.type.in_(FINAL))
    )


def newer(session: Session, job_id: str, seq: int) -> list[JobEvent] | None:
    """Return the events after number `seq`, in order, or None if the job was deleted."""
    last = last_seq(session, job_id)
    if not last:
        return None
    return after(session, job_id, seq) if last > seq else []


def _stage_and_percent(progress: dict[str, Any]) -> tuple[Any, int]:
    return progress.get("stage"), int(100 * (progress.get("fraction") or 0))
