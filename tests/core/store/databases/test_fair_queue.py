"""The fair queue gives the order that a plain ranking of all queued jobs in Python gives."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.store.db.session import Database, database_now
from core.store.db.tables import QUEUED, RUNNING, Job, Owner
from core.store.jobs import fair_queue, lifecycle
from tests.core.store.samples import new_job, new_owner

DELAY = timedelta(seconds=30)
MAX_POSITION = 6
OWNERS = ("a", "b", "c", "d")


def ranked(
    session: Session, at: datetime | None = None, *, number: int = MAX_POSITION, max_running: int = 0
) -> list[str]:
    """Return the definition of the order, in Python: the ids of the first queued jobs.

    With a time, only jobs that are due take part, and jobs with a wake-up under way count as running.
    """
    served = {owner.name: owner.served_at for owner in session.scalars(select(Owner))}
    rows = session.scalars(select(Job).order_by(Job.created_at, Job.id)).all()
    waiting = [job for job in rows if job.status == QUEUED]
    load = Counter(job.owner for job in rows if job.status == RUNNING)
    if at is not None:
        sent = {job.id for job in waiting if job.dispatched_at is not None and job.dispatched_at > at - DELAY}
        load += Counter(job.owner for job in waiting if job.id in sent)
        waiting = [job for job in waiting if job.id not in sent]
    order = []
    for job in waiting:
        load[job.owner] += 1
        since = served[job.owner]
        order.append((load[job.owner], since is not None, since or job.created_at, job.created_at, job.id))
    return [job_id for turn, *_, job_id in sorted(order) if not max_running or turn <= max_running][:number]


def check_order(session: Session, *, number: int, max_running: int) -> None:
    """Compare the positions and the next jobs with the definition. The jobs are then sent."""
    places = {job_id: place for place, job_id in enumerate(ranked(session), 1)}
    rows = session.scalars(select(Job)).all()
    expected = {job.id: places.get(job.id, MAX_POSITION) for job in rows if job.status == QUEUED}
    assert fair_queue.positions(session, rows) == expected
    at = database_now(session)
    under_way = [
        job for job in rows if job.status == QUEUED and job.dispatched_at and job.dispatched_at > at - DELAY
    ]
    first = ranked(session, at, number=number, max_running=max_running)
    ahead = number + len(under_way)
    delay = DELAY.total_seconds()
    assert first == fair_queue.take_due(
        session, redispatch_seconds=delay, ahead=ahead, max_running=max_running
    )


class History:
    """Random operations on the jobs of some owners."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.claims: list[lifecycle.Claim] = []

    def submit(self, number: int) -> None:
        new_job(self.database, owner=OWNERS[number % len(OWNERS)], images=[])

    def send(self, number: int) -> None:
        with self.database.write() as session:
            fair_queue.take_due(session, redispatch_seconds=30, ahead=1 + number % 5, max_running=number % 3)

    def claim(self, number: int) -> None:
        with self.database.write() as session:
            sent = select(Job.id).where(Job.status == QUEUED).order_by(Job.dispatched_at, Job.id)
            job_id = session.scalar(sent.offset(number % 3).limit(1)) or ""
            claim = lifecycle.claim(session, job_id, worker="w", lease_seconds=30, max_running=number % 4)
        if claim is not None:
            self.claims.append(claim)

    def end(self, number: int) -> None:
        if not self.claims:
            return
        claim = self.claims.pop(number % len(self.claims))
        with self.database.write() as session:
            if number % 4 == 0:
                lifecycle.finish_failed(session, claim, code="x", detail="y")
            elif number % 4 == 1:
                lifecycle.finish_cancelled(session, claim)
            else:
                reason: dict[str, Any] = {"max_attempts": 9, "code": "x", "detail": "y"}
                lifecycle.requeue(session, claim, spend_attempt=True, **reason)

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
                lifecycle.request_cancel(session, job.id, owner=job.owner)
            else:
                lifecycle.delete(session, job.id, owner=job.owner)


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
    monkeypatch.setattr(fair_queue, "MAX_POSITION", MAX_POSITION)


HISTORIES = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 11)), min_size=8, max_size=30)


@pytest.mark.slow
@pytest.mark.usefixtures("few_positions")
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES)
def test_any_history_gives_the_order_of_the_ranking(database: Database, history: list[Any]) -> None:
    with database.write() as session:
        for table in (Job, Owner):
            session.execute(delete(table).where(Owner.name.in_(OWNERS)) if table is Owner else delete(table))
    for owner in OWNERS:
        new_owner(database, owner)
    played = History(database)
    for operation, number in history:
        operation(played, number)
        with database.write() as session, session.begin_nested() as sending:
            check_order(session, number=1 + number % 5, max_running=number % 3)
            sending.rollback()


def test_a_clock_set_back_by_a_day_holds_no_job_back(database: Database) -> None:
    job_id = new_job(database)
    with database.write() as session:
        ahead = database_now(session) + timedelta(days=1)
        session.execute(update(Job).where(Job.id == job_id).values(dispatched_at=ahead))
    with database.write() as session:
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=1) == [job_id]


def test_an_owner_served_while_the_clock_was_ahead_has_its_turn(database: Database) -> None:
    """Otherwise its jobs would wait behind all of another owner's until the clock is there again."""
    mine, other = (new_job(database, owner=new_owner(database, name)) for name in ("a", "b"))
    with database.write() as session:
        at = database_now(session)
        for name, served in (("a", at + timedelta(hours=1)), ("b", at)):
            session.execute(update(Owner).where(Owner.name == name).values(served_at=served))
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=1) == [mine]
    assert other != mine
