"""Fair queue: the order in which the owners' jobs start.

The `turn` of a queued job is the number of its owner's running jobs once this job and the owner's earlier
ones have started. Jobs are ordered by turn, then by the owner's last start (the longest ago first), then by
age. The owner with the fewest running jobs is therefore served first.

The first k jobs belong to the first k owners, which an index on the numbers of `counters` yields in order. No
query reads the whole queue.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, column, func, literal, or_, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer, String

from core.settings import Settings
from core.store.db.session import database_now
from core.store.db.tables import QUEUED, Job, Owner
from core.store.jobs import workers

MAX_POSITION = 1_000
"""Greatest position that is reported. It stands for all later ones, too."""
ACTIVE = timedelta(days=7)
"""Time after a start in which an owner counts as active, so that a worker is kept free for it."""


def running_limit(session: Session, settings: Settings) -> int:
    """Return the maximum number of running jobs per owner; 0 means no limit.

    Jobs are not interrupted. Once two owners are active, each therefore leaves some workers free.
    """
    limit = settings.max_running_jobs
    if not settings.reserved_workers:
        return limit
    at = database_now(session)
    alive = workers.count(session, settings.lease_seconds, at)
    if alive < 2 or not _has_two_active_owners(session, at):
        return limit
    shared = max(1, alive - settings.reserved_workers)
    return min(limit, shared) if limit else shared


def _has_two_active_owners(session: Session, at: datetime) -> bool:
    recent = select(Owner.name).where(Owner.served_at > at - ACTIVE).order_by(Owner.served_at.desc())
    names = {*session.scalars(recent.limit(2)), *(row.name for row in _first_owners(session, 2))}
    return len(names) > 1


def due(at: datetime, lost_before: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for sending a queued job: it may start, and no wake-up for it is under way."""
    return Job.available_at <= at, _unsent(lost_before)


def _unsent(lost_before: datetime) -> ColumnElement[bool]:
    return or_(Job.dispatched_at.is_(None), Job.dispatched_at <= lost_before)


@dataclass(frozen=True)
class _Line:
    """An owner's queued jobs."""

    owner: str
    served_at: datetime | None
    waiting_since: datetime | None
    busy: int
    """Running jobs and, for dispatching, those with a wake-up under way."""
    waiting: int

    def until(self, turn: int) -> int:
        """Return the number of jobs that have this turn or an earlier one."""
        return min(max(turn - self.busy, 0), self.waiting)


def next_jobs(
    session: Session, number: int, *, at: datetime, lost_before: datetime, max_running: int
) -> list[str]:
    """Return the ids of the first jobs in the queue that are due, in order.

    Jobs with a wake-up under way, sent after `lost_before`, count as running.
    """
    sent = _per_owner(session, Job.dispatched_at > lost_before)
    deferred = _per_owner(session, Job.available_at > at, _unsent(lost_before))
    special = sent.keys() | deferred.keys()
    rows = {
        row.name: row
        for row in (
            *_first_owners(session, number + len(special)),
            *(session.execute(_lines(Owner.name.in_(special))) if special else ()),
        )
    }
    lines = {
        row.name: _Line(
            row.name,
            row.served_at,
            row.waiting_since,
            row.running + sent[row.name],
            max(0, row.queued - sent[row.name] - deferred[row.name]),
        )
        for row in rows.values()
    }
    last_turn = _turn_of(lines.values(), number)
    if max_running:
        last_turn = min(last_turn, max_running)
    wanted = {line.owner: line.until(last_turn) for line in lines.values()}
    found = _oldest(session, wanted, *due(at, lost_before))
    order: list[tuple[tuple[Any, ...], str]] = []
    for owner, jobs in found.items():
        line = lines[owner]
        served = (line.served_at is not None, line.served_at or at)
        for turn, (created_at, job_id) in enumerate(jobs, line.busy + 1):
            order.append(((turn, *served, created_at, job_id), job_id))
    return [job_id for _, job_id in sorted(order)[:number]]


def positions(session: Session, jobs: Iterable[Job]) -> dict[str, int]:
    """Return the positions of the queued jobs by id (1 is next), at most MAX_POSITION."""
    queued: dict[str, list[Job]] = {}
    for job in jobs:
        if job.status == QUEUED:
            queued.setdefault(job.owner, []).append(job)
    return {
        job_id: position
        for owner, theirs in queued.items()
        for job_id, position in _positions_of(session, owner, theirs).items()
    }


def _positions_of(session: Session, owner: str, jobs: Sequence[Job]) -> dict[str, int]:
    found = dict.fromkeys((job.id for job in jobs), MAX_POSITION)
    own = session.execute(_lines(Owner.name == owner)).one()
    ranks = _ranks(session, owner, jobs)
    if not ranks:
        return found
    last_turn = own.running + max(ranks.values())
    lines = [
        _Line(row.name, row.served_at, row.waiting_since, row.running, row.queued)
        for row in _first_owners(session, MAX_POSITION, Owner.name != owner, Owner.running < last_turn)
    ]
    earlier: dict[str, int] = {}
    tied: dict[str, list[_Line]] = {}
    for job in sorted((job for job in jobs if job.id in ranks), key=lambda job: ranks[job.id]):
        turn = own.running + ranks[job.id]
        ahead = ranks[job.id] + sum(line.until(turn - 1) for line in lines)
        if ahead >= MAX_POSITION:
            break  # as are all the owner's later jobs
        for line in lines:
            if line.until(turn) == line.until(turn - 1):
                continue  # the owner has no job of this turn
            if line.served_at is not None and own.served_at is not None:
                ahead += line.served_at < own.served_at
            elif line.served_at is not None or own.served_at is not None:
                ahead += line.served_at is None
            elif turn == line.busy + 1 and line.waiting_since is not None:
                ahead += line.waiting_since < job.created_at
            else:
                tied.setdefault(job.id, []).append(line)
        earlier[job.id] = ahead
    # Both owners had no start yet: the ages of their jobs of this turn decide.
    names = {line.owner for lines in tied.values() for line in lines}
    ages = _oldest(session, dict.fromkeys(names, last_turn))
    created = {job.id: (job.created_at, job.id) for job in jobs}
    for job_id, others in tied.items():
        for line in others:
            theirs = ages[line.owner][own.running + ranks[job_id] - line.busy - 1 :]
            earlier[job_id] += theirs[:1] < [created[job_id]] if theirs else 0
    found.update((job_id, min(ahead, MAX_POSITION)) for job_id, ahead in earlier.items())
    return found


def _ranks(session: Session, owner: str, jobs: Sequence[Job]) -> dict[str, int]:
    """Return the ranks of the jobs among the owner's queued jobs, without those above MAX_POSITION."""
    last = max((job.created_at, job.id) for job in jobs)
    until = tuple_(Job.created_at, Job.id) <= tuple_(literal(last[0], Job.created_at.type), literal(last[1]))
    rows = select(Job.id).where(Job.owner == owner, Job.status == QUEUED, until)
    ids = session.scalars(rows.order_by(Job.created_at, Job.id).limit(MAX_POSITION))
    wanted = {job.id for job in jobs}
    return {job_id: rank for rank, job_id in enumerate(ids, 1) if job_id in wanted}


def _lines(*where: Any) -> Select[Any]:
    columns: Sequence[Any] = (
        Owner.name,
        Owner.served_at,
        Owner.waiting_since,
        Owner.running,
        Owner.queued,
    )
    return select(*columns).where(*where)


def _first_owners(session: Session, number: int, *where: Any) -> list[Any]:
    """Return the first owners with queued jobs: of those with a start, and of those without, this number."""
    served = _lines(Owner.queued > 0, Owner.served_at.is_not(None), *where)
    unserved = _lines(Owner.queued > 0, Owner.served_at.is_(None), *where)
    return [
        *session.execute(served.order_by(Owner.running, Owner.served_at).limit(number)),
        *session.execute(unserved.order_by(Owner.running, Owner.waiting_since).limit(number)),
    ]


def _per_owner(session: Session, *where: Any) -> Counter[str]:
    rows = select(Job.owner, func.count()).where(Job.status == QUEUED, *where).group_by(Job.owner)
    return Counter({owner: number for owner, number in session.execute(rows)})


def _turn_of(lines: Collection[_Line], number: int) -> int:
    """Return the earliest turn by which this number of jobs has started, or the last turn of all."""
    low, high = 0, max((line.busy + line.waiting for line in lines), default=0)
    while low < high:
        middle = (low + high) // 2
        if sum(line.until(middle) for line in lines) >= number:
            high = middle
        else:
            low = middle + 1
    return low


def _oldest(
    session: Session, wanted: Mapping[str, int], *where: Any
) -> dict[str, list[tuple[datetime, str]]]:
    """Return per owner the creation and id of this number of its oldest queued jobs."""
    wanted = {owner: number for owner, number in wanted.items() if number > 0}
    found: dict[str, list[tuple[datetime, str]]] = {owner: [] for owner in wanted}
    if not wanted:
        return found
    jobs = select(Job.created_at, Job.id).where(Job.status == QUEUED, *where)
    jobs = jobs.order_by(Job.created_at, Job.id)
    if session.get_bind().dialect.name != "postgresql":  # no LATERAL, and no round trips to save
        for owner, number in wanted.items():
            rows = session.execute(jobs.where(Job.owner == owner).limit(number))
            found[owner] = [(row.created_at, row.id) for row in rows]
        return found
    names = literal(list(wanted), ARRAY(String))
    numbers = literal(list(wanted.values()), ARRAY(Integer))
    columns = column("owner", String), column("number", Integer)
    line = func.unnest(names, numbers).table_valued(*columns).render_derived(name="line")
    theirs = jobs.where(Job.owner == line.c.owner).limit(line.c.number).lateral("theirs")
    for row in session.execute(select(line.c.owner, theirs).join_from(line, theirs, true())):
        found[row.owner].append((row.created_at, row.id))
    return found
