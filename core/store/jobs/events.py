"""Events of a job, numbered, written in the same transactions as the changes that they describe.

A reader follows a job by reading events after the last number that it has seen. The database is the only
channel, so any API process can report on any worker. The job's row is locked while an event is appended, so
numbers become visible in order and readers miss none.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db.tables import FINAL, JobEvent


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
