"""State transitions of jobs: a compare-and-set, with its event in the same transaction."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from core.log import current
from core.store.db.tables import FINAL, Job, JobEvent
from core.store.db.text import sanitize_text
from core.store.jobs.outbox import enqueue_webhook


def transition(
    session: Session,
    job_id: str,
    *where: ColumnElement[bool],
    at: datetime,
    before: str,
    event: str,
    token: str | None = None,
    data: dict[str, Any] | None = None,
    **values: Any,
) -> Job | None:
    """Set `values` and append `event` if the job's status is `before` and it has this `token`, if given.

    `where` are further conditions on the job. Its row stays locked until the transaction ends, so event
    numbers follow the order of the commits.

    Returns:
        The changed job, or None if another transition came first. Nothing is changed then.
    """
    statement = (
        update(Job).where(Job.id == job_id, Job.status == before, *where).values(**values).returning(Job)
    )
    if token is not None:
        statement = statement.where(Job.lease_token == token)
    job = session.scalars(
        statement, execution_options={"synchronize_session": False, "populate_existing": True}
    ).one_or_none()
    if job is not None:
        request = of_request(current("request_id") or job.request_id)
        append_event(session, job_id, at=at, type=event, data={**(data or {}), **request})
        if job.status in FINAL:
            enqueue_webhook(session, job, f"job.{job.status}", at=at)
    return job


def append_event(
    session: Session, job_id: str, *, at: datetime, type: str, data: dict[str, Any] | None = None
) -> None:
    """Append an event to a job whose row this transaction has locked or created."""
    last = session.scalar(select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id)) or 0
    session.add(JobEvent(job_id=job_id, seq=last + 1, at=at, type=type, data=data or {}))
    session.flush()


def of_request(request_id: str | None) -> dict[str, str]:
    """Return the field of an event or a log line that names the request behind it."""
    return {} if request_id is None else {"request_id": request_id}


def locked(session: Session, job_id: str, *, owner: str) -> Job | None:
    """Return the owner's job, locked until this transaction ends, or None if there is none.

    On SQLite the whole transaction is the lock (`Database.write`).
    """
    query = select(Job).where(Job.id == sanitize_text(job_id), Job.owner == owner)
    return session.scalars(
        query.with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()


def finished_values(at: datetime) -> dict[str, Any]:
    """Return the column values that all final states share: the lease has ended."""
    return {"finished_at": at, "lease_token": None, "lease_expires_at": None}
