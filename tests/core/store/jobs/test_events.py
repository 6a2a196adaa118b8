"""A job's events: numbered without visible gaps, and few in number for a job of any length."""

import threading
from contextlib import suppress
from typing import Any

import pytest

from core.store.db.session import Database
from core.store.db.tables import JobEvent
from core.store.errors import Conflict
from core.store.jobs import lifecycle
from core.store.jobs.lifecycle import Claim
from tests.core.store.samples import OWNER, claimed, events_of, expire, let_lease_expire, new_job, publish


def step(fraction: float, stage: str = "training", **more: Any) -> dict[str, Any]:
    return {"stage": stage, "fraction": fraction, **more}


def beat(database: Database, claim: Claim, *steps: dict[str, Any]) -> None:
    for progress in steps:
        with database.write() as session:
            assert lifecycle.renew_lease(session, claim, lease_seconds=30, progress=progress) is False


def progress_of(database: Database, job_id: str) -> list[dict[str, Any]]:
    return [e.data for e in events_of(database, job_id) if e.type == "progress"]


def test_the_last_progress_of_each_percent_stays(database: Database) -> None:
    claim = claimed(database, new_job(database))
    given = [step(0.101), step(0.105), step(0.11), step(0.119, loss=1), step(0.119, "evaluating"), step(0.12)]
    beat(database, claim, *given)
    assert progress_of(database, claim.job_id) == [given[1], given[3], given[4], given[5]]


def test_a_replaced_event_gets_a_new_number(database: Database) -> None:
    claim = claimed(database, new_job(database))
    seen = []
    for fraction in (0.101, 0.102, 0.103):
        beat(database, claim, step(fraction))
        seen.append(events_of(database, claim.job_id)[-1].seq)
    assert seen == [4, 5, 6]  # After queued, started and stage.
    assert publish(database, claim)
    found = events_of(database, claim.job_id)
    assert [(e.seq, e.type) for e in found][-2:] == [(7, "model_published"), (8, "succeeded")]


def test_the_same_progress_adds_no_event(database: Database) -> None:
    claim = claimed(database, new_job(database))
    beat(database, claim, step(0.5), step(0.5), step(0.5))
    assert events_of(database, claim.job_id)[-1].seq == 4


def test_another_attempt_replaces_nothing(database: Database) -> None:
    claim = claimed(database, new_job(database))
    beat(database, claim, step(0.5, worker=1))
    let_lease_expire(database, claim.job_id)
    assert expire(database) == ["queued"]
    beat(database, claimed(database, claim.job_id), step(0.5, worker=2))
    assert [data["worker"] for data in progress_of(database, claim.job_id)] == [1, 2]


def test_a_follower_misses_no_event(database: Database) -> None:
    """One thread writes as fast as possible, in competition with a cancel; another reads after the last
    number.
    """
    claim = claimed(database, new_job(database))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for i in range(20):
                with database.write() as session:
                    lifecycle.renew_lease(session, claim, lease_seconds=30, progress=step(i / 20))
                with database.write() as session:
                    lifecycle.record_warning(session, claim, "w", str(i))
            publish(database, claim)
        except BaseException as error:
            failures.append(error)

    def cancel() -> None:
        with suppress(Conflict), database.write() as session:  # The cancel may come after the end.
            lifecycle.request_cancel(session, claim.job_id, owner=OWNER)

    threads = [threading.Thread(target=target) for target in (work, cancel)]
    for thread in threads:
        thread.start()
    heard: list[JobEvent] = []
    while not heard or heard[-1].type != "succeeded":
        assert not failures
        heard += events_of(database, claim.job_id, heard[-1].seq if heard else 0)
    for thread in threads:
        thread.join()
    stored = events_of(database, claim.job_id)
    assert [e.data["detail"] for e in heard if e.type == "warning"] == [str(i) for i in range(20)]
    assert {e.seq for e in stored} <= {e.seq for e in heard}
    numbers = [e.seq for e in heard]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("progress", [{}, {"stage": None}, {"stage": "x", "fraction": None}])
def test_incomplete_progress(database: Database, progress: dict[str, Any]) -> None:
    claim = claimed(database, new_job(database))
    beat(database, claim, progress, {**progress, "step": 1})
    assert progress_of(database, claim.job_id) == [{**progress, "step": 1}]
