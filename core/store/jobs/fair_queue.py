"""Fair queue: the order in which the owners' jobs start."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, func, or_, select
from sqlalchemy.orm import Session

from core.store.accounts.owners import due
from core.store.accounts.quotas import count_jobs
from core.store.db.tables import QUEUED, RUNNING, Job, Owner


def may_start(session: Session, owner: str, max_running: int) -> bool:
    """Return whether another job of the owner may run. The result is reliable only while the owner is locked.

    `max_running` is the limit per owner; 0 means no limit.
    """
    return max_running == 0 or count_jobs(session, owner, RUNNING) < max_running


def fair_queue(at: datetime | None = None, lost_before: datetime | None = None) -> Subquery:
    """Return the queued jobs as `id, owner, turn, place`; the lowest place starts next.

    `turn` is the number of the owner's running jobs once this job and the owner's earlier ones have started.
    Jobs are ordered by turn, then by the owner's last start (the longest ago first), then by age. The owner
    with the fewest running jobs is therefore served first.

    With both times, only jobs that are `due` take part, and jobs with a wake-up under way count as running.
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
