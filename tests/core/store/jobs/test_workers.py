"""Workers that report themselves, and the workers that one owner's jobs leave free."""

from datetime import timedelta

from sqlalchemy import update

from core.settings import Settings
from core.store.db.session import Database, database_now
from core.store.db.tables import Owner, Worker
from core.store.jobs import fair_queue, leases, workers
from tests.core.store.samples import OWNER, claimed, new_job, new_owner, publish


def report(database: Database, *names: str) -> None:
    for name in names:
        with database.write() as session:
            workers.report(session, name)


def idle(database: Database) -> int:
    with database.read() as session:
        return workers.idle(session, 30)


def limit(database: Database, **given: int) -> int:
    with database.read() as session:
        return fair_queue.running_limit(session, Settings(**given))  # type: ignore[arg-type]


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


def test_a_worker_stays_free_once_two_owners_are_active(database: Database) -> None:
    report(database, "one", "two", "three")
    new_job(database)
    assert limit(database) == 0  # One owner alone may use all workers.
    other = new_owner(database, "other")
    assert limit(database) == 0  # It has never trained.
    publish(database, claimed(database, new_job(database, owner=other)))
    assert limit(database) == 2
    assert limit(database, reserved_workers=2) == 1
    assert limit(database, reserved_workers=3) == 1  # 0 would be no limit.
    assert limit(database, reserved_workers=0) == 0
    assert limit(database, max_running_jobs=1) == 1
    assert limit(database, max_running_jobs=5) == 2
    with database.write() as session:  # A month later.
        past = database_now(session) - timedelta(days=30)
        session.execute(update(Owner).where(Owner.name == other).values(served_at=past))
    assert limit(database) == 0


def test_one_worker_serves_every_owner(database: Database) -> None:
    report(database, "one")
    for owner in (OWNER, new_owner(database, "other")):
        new_job(database, owner=owner)
    assert limit(database) == 0


def test_the_job_of_a_second_owner_starts_while_the_first_has_many(database: Database) -> None:
    """There are two workers. The first owner submits ten jobs, later the second owner submits one."""
    report(database, "one", "two")
    other = new_owner(database, "other")
    publish(database, claimed(database, new_job(database, owner=other)))
    mine = [new_job(database) for _ in range(10)]

    def start(job_id: str) -> bool:
        with database.write() as session:
            most = fair_queue.running_limit(session, Settings())
            return leases.claim(session, job_id, worker="w", lease_seconds=30, max_running=most) is not None

    assert [start(job_id) for job_id in mine] == [True, *[False] * 9]
    assert idle(database) == 1
    assert start(new_job(database, owner=other))
