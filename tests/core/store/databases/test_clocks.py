"""Leases follow the database's clock; the clocks of workers and dispatchers may be off by hours."""

import datetime as real
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from core.store.db import session
from core.store.db.session import Database
from core.store.jobs import jobs, lifecycle
from tests.core.store.samples import events_of, expire, job_of, new_job


@contextmanager
def clock_off(by: timedelta) -> Iterator[None]:
    """Shift Python's clock in all modules of the store."""

    class Wrong(real.datetime):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> Any:
            return real.datetime.now(tz) + by

    with pytest.MonkeyPatch.context() as patch:
        for module in (jobs, lifecycle, session):
            patch.setattr(module, "datetime", Wrong, raising=False)
        patch.setattr("time.time", lambda: real.datetime.now().timestamp() + by.total_seconds())
        yield


@pytest.mark.parametrize("worker", [-1, 0, 1])
@pytest.mark.parametrize("dispatcher", [-1, 1])
def test_a_wrong_clock_expires_no_lease(on_postgres: Database, worker: int, dispatcher: int) -> None:
    job_id = new_job(on_postgres)
    with clock_off(timedelta(hours=worker)):
        with on_postgres.write() as session:
            claim = lifecycle.claim(session, job_id, worker="w", lease_seconds=30)
        assert claim is not None
        with on_postgres.write() as session:
            assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress={"step": 1}) is False
    with clock_off(timedelta(hours=dispatcher)):
        assert expire(on_postgres) == []
    assert job_of(on_postgres, job_id).status == "running"
    at = [event.at for event in events_of(on_postgres, job_id)]
    assert max(at) - min(at) < timedelta(minutes=1)  # Both times come from one clock.


def test_a_wrong_clock_keeps_no_lease_alive(on_postgres: Database) -> None:
    job_id = new_job(on_postgres)
    with clock_off(timedelta(hours=1)), on_postgres.write() as session:
        assert lifecycle.claim(session, job_id, worker="w", lease_seconds=0.001)
    with clock_off(timedelta(hours=-1)):
        assert expire(on_postgres) == ["queued"]
