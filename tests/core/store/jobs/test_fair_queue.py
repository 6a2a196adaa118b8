"""The fair queue gives the order of a plain ranking of all queued jobs, and reads few rows."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Subquery, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from core.store.db.session import Database, database_now
from core.store.db.tables import QUEUED, RUNNING, Job, Owner, WebhookSecret
from core.store.jobs import counters, fair_queue, jobs, leases
from core.store.jobs.fair_queue import due
from tests.core.store.samples import new_job, new_owner

OWNERS = ("a", "b", "c", "d")


def ranking(at: datetime | None = None, lost_before: datetime | None = None) -> Subquery:
    """Return the definition of the order: a ranking of all queued jobs, as `id, owner, turn, place`.

    With both times, only jobs that are due take part, and jobs with a wake-up under way count as running.
    """
    busy: ColumnElement[bool] = Job.status == RUNNING
    waiting: ColumnElement[bool] = Job.status == QUEUED
    if at is not None and lost_before is not None:
        busy = or_(busy, and_(Job.status == QUEUED, Job.dispatched_at > lost_before))
        waiting = and_(waiting, *due(at, lost_before))
    load = select(Job.owner, func.count().label("jobs")).where(busy).group_by(Job.owner).subquery()
    rank = func.row_number().over(partition_by=Job.owner, order_by=(Job.created_at, Job.id))
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


def check_order(session: Session, *, number: int, max_running: int) -> None:
    """Compare the next jobs and all positions with the ranking."""
    at = database_now(session)
    lost_before = at - timedelta(seconds=30)
    queue = ranking(at, lost_before)
    first = select(queue.c.id).order_by(queue.c.place).limit(number)
    if max_running:
        first = first.where(queue.c.turn <= max_running)
    found = fair_queue.next_jobs(session, number, at=at, lost_before=lost_before, max_running=max_running)
    assert found == list(session.scalars(first))
    queue = ranking()
    places = {row.id: row.place for row in session.execute(select(queue.c.id, queue.c.place))}
    capped = {job_id: min(place, fair_queue.MAX_POSITION) for job_id, place in places.items()}
    assert fair_queue.positions(session, session.scalars(select(Job))) == capped
    for job_id, place in capped.items():
        assert jobs.queue_position(session, session.get_one(Job, job_id)) == place


def check_counters(session: Session) -> None:
    assert counters.wrong_owners(session) == []
    oldest = select(Job.owner, func.min(Job.created_at)).where(Job.status == QUEUED).group_by(Job.owner)
    since = {owner: at for owner, at in session.execute(oldest)}
    for owner in session.scalars(select(Owner).where(Owner.served_at.is_(None), Owner.queued > 0)):
        assert owner.waiting_since == since[owner.name]


class History:
    """Random operations on the jobs of some owners."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.claims: list[leases.Claim] = []

    def submit(self, number: int) -> None:
        new_job(self.database, owner=OWNERS[number % len(OWNERS)], images=[])

    def send(self, number: int) -> None:
        with self.database.write() as session:
            jobs.take_due(session, redispatch_seconds=30, ahead=1 + number % 5, max_running=number % 3)

    def claim(self, number: int) -> None:
        with self.database.write() as session:
            sent = select(Job.id).where(Job.status == QUEUED).order_by(Job.dispatched_at, Job.id)
            job_id = session.scalar(sent.offset(number % 3).limit(1)) or ""
            claim = leases.claim(session, job_id, worker="w", lease_seconds=30, max_running=number % 4)
        if claim is not None:
            self.claims.append(claim)

    def end(self, number: int) -> None:
        if not self.claims:
            return
        claim = self.claims.pop(number % len(self.claims))
        with self.database.write() as session:
            if number % 4 == 0:
                leases.finish_failed(session, claim, code="x", detail="y")
            elif number % 4 == 1:
                leases.finish_cancelled(session, claim)
            else:
                reason: dict[str, Any] = {"max_attempts": 9, "code": "x", "detail": "y"}
                delay = 60 * (number % 3)
                leases.requeue(session, claim, spend_attempt=True, delay_seconds=delay, **reason)

    def lose_message(self, number: int) -> None:
        with self.database.write() as session:
            past = database_now(session) - timedelta(seconds=31)
            sent = select(Job.id).where(Job.dispatched_at.is_not(None)).order_by(Job.id)
            job_id = session.scalar(sent.offset(number % 3).limit(1))
            session.execute(update(Job).where(Job.id == job_id).values(dispatched_at=past))

    def remove(self, number: int) -> None:
        with self.database.write() as session:
            rows = select(Job).where(Job.status != RUNNING).order_by(Job.created_at)
            job = session.scalars(rows.offset(number % 3).limit(1)).one_or_none()
            if job is None:
                return
            if number % 2 and job.status == QUEUED:
                jobs.request_cancel(session, job.id, owner=job.owner)
            else:
                jobs.delete(session, job.id, owner=job.owner)


OPERATIONS = (
    *(History.submit,) * 4,
    *(History.send, History.claim) * 2,
    History.end,
    History.lose_message,
    History.remove,
)


@pytest.fixture
def few_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower MAX_POSITION, so that short histories reach it."""
    monkeypatch.setattr(fair_queue, "MAX_POSITION", 6)


HISTORIES = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 11)), min_size=8, max_size=30)


@pytest.mark.usefixtures("few_positions")
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES)
def test_any_history_gives_the_order_of_the_ranking(database: Database, history: list[Any]) -> None:
    play(database, history)


def play(database: Database, history: list[Any]) -> None:
    with database.write() as session:
        for table in (Job, WebhookSecret, Owner):
            session.execute(delete(table).where(Owner.name.in_(OWNERS)) if table is Owner else delete(table))
    for owner in OWNERS:
        new_owner(database, owner)
    played = History(database)
    for operation, number in history:
        operation(played, number)
        with database.read() as session:
            check_counters(session)
            check_order(session, number=1 + number % 5, max_running=number % 3)


@pytest.mark.slow
@pytest.mark.usefixtures("few_positions")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES)
def test_many_histories_give_the_order_of_the_ranking(database: Database, history: list[Any]) -> None:
    play(database, history)
