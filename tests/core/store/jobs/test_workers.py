"""Workers that report themselves."""

from datetime import timedelta

from sqlalchemy import update

from core.store.db.session import Database, database_now
from core.store.db.tables import Worker
from core.store.jobs import workers
from tests.core.store.samples import claimed, new_job, publish


def report(database: Database, *names: str) -> None:
    for name in names:
        with database.write() as session:
            workers.report(session, name)


def idle(database: Database) -> int:
    with database.read() as session:
        return workers.idle(session, 30)


def test_idle_workers_are_those_without_a_job(database: Database) -> None:
    assert idle(database) == 0
    report(database, "one", "two", "two")
    assert idle(database) == 2
    claim = claimed(database, new_job(database))
    assert idle(database) == 1
    publish(database, claim)
    with database.write() as session:
        workers.withdraw(session, "two")
    assert idle(database) == 1
    with database.write() as session:  # The other one was killed.
        session.execute(update(Worker).values(seen_at=database_now(session) - timedelta(seconds=31)))
    assert idle(database) == 0
    with database.write() as session:  # The clock was a day ahead when it was killed.
        session.execute(update(Worker).values(seen_at=database_now(session) + timedelta(days=1)))
    assert idle(database) == 0
