"""The fair queue: the order in which owners' jobs start."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, func, or_, select
from sqlalchemy.orm import Session

from core.store.accounts.owners import due
from core.store.accounts.quotas import count_jobs
from core.store.db.tables import QUEUED, RUNNING, Job, Owner


def may_start(session: Session, owner: str, max_running: int) -> bool:
    """Whether one more job of theirs may run (0: any number). Certain only while the owner is locked."""
    return max_running == 0 or count_jobs(session, owner, RUNNING) < max_running


def fair_queue(at: datetime | None = None, lost_before: datetime | None = None) -> Subquery:
    """The queued jobs as `id, owner, turn, place`: who of them is next, and after whom.

    `turn` is how many jobs of its owner would run if this one and those before it were started. The
    lowest turn is next: the job of whoever has the fewest running. Between equals it's the owner who
    was served longest ago, then the oldest job. With both times only jobs that are `due` stand in line,
    and those on their way to a worker count as running.
    """
    busy: ColumnElement[bool] = Job.status == RUNNING
    waiting: ColumnElement[bool] = Job.status == QUEUED
    if at is not None and lost_before is not None:
        busy = or_(busy, and_(Job.status == QUEUED, Job.dispatched_at > lost_before))
        waiting = and_(waiting, *due(at, lost_before))
    load = select(Job.owner, func.count().label("jobs")).where(busy).group_by(Job.owner).subquery()
    oldest: Any = (Job.created_at, Job.id)
    rank = func.row_number().over(partition_by=Job.owner, order_by=oldest)
    line = (
        select(
            Job.id,
            Job.owner,
            Job.created_at,
            (rank + func.coalesce(load.c.jobs, 0)).label("turn"),
            Owner.served_at,
        )
        .join(Owner, Owner.name == Job.owner)
        .outerjoin(load, load.c.owner == Job.owner)
        .where(waiting)
        .subquery()
    )
    order = (line.c.turn, line.c.served_at.asc().nulls_first(), line.c.created_at, line.c.id)
    place = func.row_number().over(order_by=order).label("place")
    return select(line.c.id, line.c.owner, line.c.turn, place).subquery()
