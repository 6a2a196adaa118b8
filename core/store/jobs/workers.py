"""Workers that can take a job, as they report themselves."""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import RUNNING, Job, Worker

FORGOTTEN = timedelta(days=1)


def report(session: Session, name: str) -> None:
    """Record that the worker is alive and can take a job."""
    at = database_now(session)
    session.merge(Worker(name=name, seen_at=at))
    session.execute(delete(Worker).where(Worker.seen_at < at - FORGOTTEN))


def withdraw(session: Session, name: str) -> None:
    """Record that the worker takes no jobs."""
    session.execute(delete(Worker).where(Worker.name == name))


def count(session: Session, lease_seconds: float, at: datetime) -> int:
    """Return the number of workers that have reported themselves within the lease of a job.

    A report from the future is that of a clock that was ahead.
    """
    lease = timedelta(seconds=lease_seconds)
    seen = Worker.seen_at.between(at - lease, at + lease)
    return session.scalar(select(func.count()).select_from(Worker).where(seen)) or 0


def idle(session: Session, lease_seconds: float) -> int:
    """Return the number of workers without a job."""
    running = session.scalar(select(func.count()).where(Job.status == RUNNING)) or 0
    return max(0, count(session, lease_seconds, database_now(session)) - running)
