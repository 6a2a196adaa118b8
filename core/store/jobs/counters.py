"""Numbers of jobs per owner and status, stored with the owner so that no query counts jobs.

The functions lock the owner's row after the job's. Code that locks both must keep this order.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.session import Database
from core.store.db.tables import CANCELLED, QUEUED, RUNNING, STATUSES, Job, Owner

PAGE_SIZE = 10_000
"""Owners per call of `reconcile`."""


def count_change(session: Session, job: Job, before: str | None, after: str | None, *, at: datetime) -> None:
    """Count the change of a job's status. None stands for a job that does not exist yet, or no longer.

    The change itself must be flushed.
    """
    values: dict[str, Any] = {}
    if before is not None:
        values[before] = getattr(Owner, before) - 1
    if after is not None:
        values[after] = getattr(Owner, after) + 1
    if after == RUNNING:
        values["served_at"] = at
    elif after == QUEUED:
        older = or_(Owner.queued == 0, Owner.waiting_since.is_(None), Owner.waiting_since > job.created_at)
        values["waiting_since"] = case((older, job.created_at), else_=Owner.waiting_since)
    mine = update(Owner).where(Owner.name == job.owner)
    options = {"synchronize_session": False}
    session.execute(mine.values(values), execution_options=options)
    if before == QUEUED and after in {None, CANCELLED}:
        # A statement of its own, because it must see what was committed before the lock was granted.
        oldest = _oldest(job.owner).scalar_subquery()
        unserved = mine.where(Owner.served_at.is_(None), Owner.waiting_since == job.created_at)
        session.execute(unserved.values(waiting_since=oldest), execution_options=options)


def wrong_owners(
    session: Session, statuses: Collection[str] = STATUSES, *, after: str = "", until: str = ""
) -> list[str]:
    """Return the owners whose numbers of jobs with these statuses differ from their jobs.

    Only software older than the numbers makes them differ, and a restored backup that it wrote.

    Args:
        after: only owners with a later name.
        until: last name; an empty one is no limit.
    """

    def within(name: Any) -> list[Any]:
        return [*([name > after] if after else []), *([name <= until] if until else [])]

    counted = (
        select(Job.owner, *(func.count().filter(Job.status == s).label(s) for s in statuses))
        .where(Job.status.in_(statuses), *within(Job.owner))
        .group_by(Job.owner)
        .subquery()
    )
    differs = [getattr(Owner, s) != func.coalesce(counted.c[s], 0) for s in statuses]
    rows = select(Owner.name).outerjoin(counted, counted.c.owner == Owner.name)
    return list(session.scalars(rows.where(or_(*differs), *within(Owner.name)).order_by(Owner.name)))


def page_end(session: Session, after: str) -> str:
    """Return the last of the next PAGE_SIZE owners, or an empty text if there are fewer."""
    later = select(Owner.name).where(Owner.name > after).order_by(Owner.name)
    return session.scalar(later.offset(PAGE_SIZE - 1).limit(1)) or ""


def recount(session: Session, owner: str) -> None:
    """Count the owner's jobs again.

    The result is exact: while the owner is locked, no transaction that changes a job's status commits.
    """
    row = owners.lock(session, owner)
    rows = select(Job.status, func.count()).where(Job.owner == owner).group_by(Job.status)
    counts = {status: number for status, number in session.execute(rows)}
    for status in STATUSES:
        setattr(row, status, counts.get(status, 0))
    row.waiting_since = session.scalar(_oldest(owner))
    session.flush()


def reconcile(
    database: Database, statuses: Collection[str] = STATUSES, *, after: str = ""
) -> tuple[list[str], str]:
    """Correct the numbers of jobs with these statuses, of the next PAGE_SIZE owners.

    Returns:
        The owners whose numbers were wrong, and `after` of the next call, which is empty at the end.
    """
    with database.read() as session:
        until = page_end(session, after)
        wrong = wrong_owners(session, statuses, after=after, until=until)
    for owner in wrong:
        with database.write() as session:
            recount(session, owner)
    return wrong, until


def _oldest(owner: str) -> Any:
    return select(func.min(Job.created_at)).where(Job.owner == owner, Job.status == QUEUED)
