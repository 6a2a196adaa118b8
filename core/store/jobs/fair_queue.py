"""Fair queue: the order in which the owners' jobs start.

The `turn` of a queued job is the number of running jobs that its owner would have if this job and the owner's
earlier ones had started. Jobs are ordered by turn, then by the owner's last start (oldest first; one in the
future comes from a wrong clock, and is ignored), then by age. So the owner with the fewest running jobs comes
first.

One query ranks the queued jobs, through an index of their own.
"""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, Select, case, false, func, literal, or_, select, union_all, update
from sqlalchemy.orm import Session

from core.store.db.session import database_now, now_column
from core.store.db.tables import QUEUED, RUNNING, Job, Owner

# A literal, because SQLite does not use a partial index for a parameter.
_QUEUED = Job.status == literal(QUEUED, literal_execute=True)
_NONE = false()
MAX_POSITION = 1_000
"""Positions are capped at this value."""


def take_due(session: Session, *, redispatch_seconds: float, ahead: int, max_running: int = 0) -> list[str]:
    """Claim the jobs whose wake-ups must be sent now. Return their ids in queue order.

    Args:
        redispatch_seconds: time after which a wake-up counts as lost and its job is due again. A wake-up
            more than this in the future comes from a wrong clock, and is ignored.
        ahead: maximum number of wake-ups in transit. All other jobs wait in the database, in fair order.
        max_running: maximum running jobs per owner; 0 means no limit.
    """
    at = database_now(session)
    delay = timedelta(seconds=redispatch_seconds)
    sent = Job.dispatched_at.between(at - delay, at + delay)
    room = ahead - (session.scalar(select(func.count()).where(_QUEUED, sent)) or 0)
    if room <= 0:
        return []
    order = list(session.scalars(_first(session, room, sent=sent, max_turn=max_running)))
    # Another dispatcher may have claimed some of them meanwhile.
    free = select(Job.id).where(Job.id.in_(order), _QUEUED, or_(Job.dispatched_at.is_(None), ~sent))
    claimed = sorted(session.scalars(free.with_for_update(skip_locked=True)), key=order.index)
    session.execute(
        update(Job).where(Job.id.in_(claimed)).values(dispatched_at=at),
        execution_options={"synchronize_session": False},
    )
    return claimed


def forget_sent(session: Session) -> None:
    """Make all queued jobs due. A restarted broker has lost its messages."""
    session.execute(update(Job).where(_QUEUED).values(dispatched_at=None))


def positions(session: Session, jobs: Iterable[Job]) -> dict[str, int]:
    """Return the positions of the queued jobs by id, in the queue of all owners.

    1 is next. Positions are capped at MAX_POSITION.
    """
    queued = [job.id for job in jobs if job.status == QUEUED]
    if not queued:
        return {}
    places = {job_id: place for place, job_id in enumerate(session.scalars(_first(session, MAX_POSITION)), 1)}
    return {job_id: places.get(job_id, MAX_POSITION) for job_id in queued}


def position(session: Session, job: Job) -> int | None:
    """Return the job's position as in `positions`, or None if it is not queued."""
    return positions(session, [job]).get(job.id)


def _first(
    session: Session, number: int, *, sent: ColumnElement[bool] = _NONE, max_turn: int = 0
) -> Select[str]:
    """Select the ids of the first jobs in the queue, in order.

    Args:
        sent: condition on queued jobs that are about to start. They count as running.
        max_turn: highest turn to include; 0 means all.
    """
    # Each condition has its own index, and the ranked columns have another one.
    busy = [select(Job.owner).where(Job.status == RUNNING), select(Job.owner).where(_QUEUED, sent)]
    each = union_all(*busy).subquery()
    load = select(each.c.owner, func.count().label("jobs")).group_by(each.c.owner).subquery()
    rank = func.row_number().over(partition_by=Job.owner, order_by=(Job.created_at, Job.id)).label("rank")
    line = (
        select(Job.id, Job.owner, Job.created_at, rank)
        .where(_QUEUED, Job.id.not_in(select(Job.id).where(_QUEUED, sent)))
        .subquery()
    )
    turn = line.c.rank + func.coalesce(load.c.jobs, 0)
    served = case((Owner.served_at <= now_column(session), Owner.served_at))
    first = (
        select(line.c.id)
        .join(Owner, Owner.name == line.c.owner)
        .outerjoin(load, load.c.owner == line.c.owner)
        .where(line.c.rank <= number)  # enough, even if all belong to one owner
        .order_by(turn, served.asc().nulls_first(), line.c.created_at, line.c.id)
        .limit(number)
    )
    return first.where(turn <= max_turn) if max_turn else first
