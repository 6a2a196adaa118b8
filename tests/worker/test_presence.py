"""Signs of life of a worker, by which the dispatcher counts it."""

import time

from core.store.db.session import Database
from core.store.jobs import workers
from worker.presence import Presence


def idle(database: Database) -> int:
    with database.read() as session:
        return workers.idle(session, 30)


def wait_for(database: Database, number: int) -> None:
    until = time.monotonic() + 600
    while idle(database) != number:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_worker_is_present_while_it_can_run_jobs(database: Database) -> None:
    can_run = True
    presence = Presence(database, "w", lambda: can_run, lease_seconds=0.1)
    presence.start()
    wait_for(database, 1)
    can_run = False  # Its disk is full.
    wait_for(database, 0)
    can_run = True
    wait_for(database, 1)
    presence.stop()
    wait_for(database, 0)


def test_an_error_of_the_disk_does_not_end_the_reports(database: Database) -> None:
    errors = [OSError(5, "Input/output error")]

    def can_run() -> bool:
        if errors:
            raise errors.pop()
        return True

    presence = Presence(database, "w", can_run, lease_seconds=0.1)
    presence.start()
    wait_for(database, 1)
    presence.stop()
    wait_for(database, 0)
