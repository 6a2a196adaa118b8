"""How a job changes state: one function, a compare-and-set, and an event in the same transaction."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.store.db.tables import FINAL, Job, JobEvent
from core.store.db.text import sanitize_text
from core.store.jobs.outbox import enqueue_webhook


def transition(
    session: Session,
    job_id: str,
    *,
    at: datetime,
    allowed: Collection[str],
    event: str,
    token: str | None = None,
    data: dict[str, Any] | None = None,
    **values: Any,
) -> Job | None:
    """Set `values` if the job is in one of the `allowed` states (and its lease is `token`'s).

    None, and nothing changed, if it is not: somebody else was first. The row stays locked until
    the transaction ends, which also keeps the events' numbers in the order of the commits.
    """
    statement = update(Job).where(Job.id == job_id, Job.status.in_(allowed)).values(**values).returning(Job)
    if token is not None:
        statement = statement.where(Job.lease_token == token)
    job = session.scalars(
        statement, execution_options={"synchronize_session": False, "populate_existing": True}
    ).one_or_none()
    if job is not None:
        append_event(session, job_id, at=at, type=event, data=data)
        if job.status in FINAL:
            enqueue_webhook(session, job, at=at)
    return job


def append_event(
    session: Session, job_id: str, *, at: datetime, type: str, data: dict[str, Any] | None = None
) -> None:
    """The next event of a job whose row this transaction has locked (or just made)."""
    last = session.scalar(select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id)) or 0
    session.add(JobEvent(job_id=job_id, seq=last + 1, at=at, type=type, data=data or {}))
    session.flush()


def locked(session: Session, job_id: str, *, owner: str) -> Job | None:
    """The owner's job as it is now; nobody changes it before this transaction ends.

    On SQLite the whole transaction is the lock (`Database.write`).
    """
    named = select(Job).where(Job.id == sanitize_text(job_id), Job.owner == owner)
    return session.scalars(
        named.with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()


def finished_values(at: datetime) -> dict[str, Any]:
    """What every final state has in common: nobody holds the job any more."""
    return {"finished_at": at, "lease_token": None, "lease_expires_at": None}


def requeued_values(available_at: datetime) -> dict[str, Any]:
    """Queued again. It keeps its place: the queue goes by the time of creation."""
    return {
        "status": "queued",
        "lease_token": None,
        "lease_expires_at": None,
        "worker": None,
        "progress": None,
        "available_at": available_at,
        "dispatched_at": None,
    }
