"""The worker's lease, which ends before the lease in the database."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.store.db.session import Database
from core.store.db.tables import Job
from core.store.errors import DatabaseUnavailable
from core.store.jobs import lifecycle
from tests.core.store.samples import OWNER, claimed, new_job
from worker.lease import Lease


class UnreachableDatabase:
    """Database that becomes unreachable after some heartbeats, or answers late."""

    def __init__(self, database: Database, *, answers: int, late_seconds: float = 0) -> None:
        self.database = database
        self.answers = answers
        self.late_seconds = late_seconds
        self.asked: list[float] = []
        """Start time of each heartbeat (monotonic clock)."""
        self.silent = threading.Event()

    @contextmanager
    def write(self) -> Iterator[Session]:
        self.asked.append(time.monotonic())
        if len(self.asked) > self.answers:
            self.silent.set()
            raise DatabaseUnavailable("The database can't be reached.")
        with self.database.write() as session:
            yield session
        time.sleep(self.late_seconds)


@pytest.mark.parametrize("late_seconds", [0.0, 0.6])
def test_a_worker_without_a_database_stops_before_its_lease_ends(
    database: Database, late_seconds: float
) -> None:
    """The lease counts from the start of the last answered heartbeat, because the database's time may be that
    old.
    """
    cut_off = UnreachableDatabase(database, answers=1, late_seconds=late_seconds)
    claim = claimed(database, new_job(database))
    with Lease(cut_off, claim, lease_seconds=2, beat_seconds=0.02) as lease:  # type: ignore[arg-type]
        assert lease.lost.wait(60)
    # The last heartbeat found the lease lost. The previous one did not, so it started within 0.8 of the
    # lease, however slow the machine is.
    assert cut_off.asked[-2] - cut_off.asked[0] <= 0.8 * 2
    assert cut_off.silent.is_set()


def test_a_heartbeat_learns_of_a_cancellation_and_of_another_lease(database: Database) -> None:
    job_id = new_job(database)
    with Lease(database, claimed(database, job_id), lease_seconds=600, beat_seconds=0.01) as lease:
        with database.write() as session:
            lifecycle.request_cancel(session, job_id, owner=OWNER)
        assert lease.cancelled.wait(60)
        assert not lease.lost.is_set()
        with database.write() as session:
            session.execute(update(Job).values(lease_token="of another worker"))
        assert lease.lost.wait(60)


def test_a_short_outage_loses_no_lease(database: Database) -> None:
    cut_off = UnreachableDatabase(database, answers=0)
    claim = claimed(database, new_job(database))
    with Lease(cut_off, claim, lease_seconds=600, beat_seconds=0.01) as lease:  # type: ignore[arg-type]
        assert cut_off.silent.wait(60)
        cut_off.answers = 10**9  # The database is back.
        while len(cut_off.asked) < 5:
            time.sleep(0.01)
        assert not lease.lost.is_set()
