"""Numbered events of a job. Each is written in the transaction of the change that it describes.

A reader follows a job by reading the events after the last number it has seen. Events travel only through
the database, so any API process can report on any worker. The job's row is locked while an event is appended,
so numbers become visible in order and readers miss none.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db.tables import FINAL, JobEvent


def after(session: Session, job_id: str, seq: int) -> list[JobEvent]:
    """Return the events with a greater number than `seq`, in order."""
    later = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    return list(session.scalars(later.order_by(JobEvent.seq)))


def last_seq(session: Session, job_id: str) -> int:
    """Return the number of the newest event, or 0 if the job does not exist."""
    return session.scalar(select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id)) or 0


def end_seq(session: Session, job_id: str) -> int | None:
    """Return the number of the event that ended the job, or None. Later events are about its webhook."""
    return session.scalar(
        select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id, JobEvent.type.in_(FINAL))
    )


def newer(session: Session, job_id: str, seq: int) -> list[JobEvent] | None:
    """Return the events after number `seq`, in order, or None if the job was deleted."""
    last = last_seq(session, job_id)
    if not last:
        return None
    return after(session, job_id, seq) if last > seq else []
