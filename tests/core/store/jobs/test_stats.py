"""The number of waiting jobs, the age of the oldest, and the durations of recent ones."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from core.store.db.session import Database, database_now
from core.store.db.tables import Job
from core.store.jobs import fair_queue, lifecycle
from core.store.jobs.stats import Backlog, backlog, recent_successes
from tests.core.store.samples import claimed, expire, let_lease_expire, new_job, publish


def now(database: Database) -> Backlog:
    with database.read() as session:
        return backlog(session, redispatch_seconds=30)


def aged(database: Database, job_id: str, **seconds: float) -> None:
    """Move these times of the job into the past."""
    with database.write() as session:
        at = database_now(session)
        values: dict[str, Any] = {name: at - timedelta(seconds=s) for name, s in seconds.items()}
        session.execute(update(Job).where(Job.id == job_id).values(values))


def test_nothing_to_do(database: Database) -> None:
    none = dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled"), 0)
    assert now(database) == Backlog(jobs=none, failures={}, queue_age=0, dispatch_lag=0)


def test_jobs_by_status_and_failures_by_code(database: Database) -> None:
    for _ in range(2):
        new_job(database)
    claimed(database, new_job(database))
    publish(database, claimed(database, new_job(database)))
    for code in ("out_of_memory", "trainer_died", "out_of_memory"):
        claim = claimed(database, new_job(database))
        with database.write() as session:
            lifecycle.finish_failed(session, claim, code=code, detail="x")
    found = now(database)
    assert found.jobs == {"queued": 2, "running": 1, "succeeded": 1, "failed": 3, "cancelled": 0}
    assert found.failures == {"out_of_memory": 2, "trainer_died": 1}


def test_the_age_of_the_queue(database: Database) -> None:
    new_job(database)
    old = new_job(database)
    aged(database, old, available_at=100)
    assert now(database).queue_age == pytest.approx(100, abs=5)
    claimed(database, old)  # It no longer waits.
    assert now(database).queue_age < 5


def test_a_job_that_is_queued_again_waits_since_then(database: Database) -> None:
    job_id = new_job(database)
    aged(database, job_id, available_at=1_000)
    claimed(database, job_id)
    let_lease_expire(database, job_id)
    assert expire(database) == ["queued"]
    assert now(database).queue_age < 5


def test_the_lag_of_the_dispatcher(database: Database) -> None:
    job_id = new_job(database)
    aged(database, job_id, available_at=50)
    assert now(database).dispatch_lag == pytest.approx(50, abs=5)
    with database.write() as session:
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=4) == [job_id]
    assert now(database).dispatch_lag == 0
    aged(database, job_id, dispatched_at=50)  # The message is lost, and no dispatcher has sent it again.
    assert now(database).dispatch_lag == pytest.approx(20, abs=5)


def end_job(database: Database, backbone: str, **settings: Any) -> None:
    config = {"backbone": backbone, "image_size": None, **settings}
    assert publish(database, claimed(database, new_job(database, config=config)))


def test_only_jobs_of_the_same_image_size_and_without_large_settings_are_a_basis(database: Database) -> None:
    def found(image_size: int | None) -> list[Any]:
        with database.read() as session:
            jobs = recent_successes(session, backbone="starter", image_size=image_size)
        return [job.config.get("epochs") for job in jobs]

    end_job(database, "starter", epochs=1)
    end_job(database, "starter", epochs=2, image_size=160)
    end_job(database, "starter", epochs=3, prompts={"red fox": ["x" * 300_000]})
    end_job(database, "starter", epochs=4, image_size=160)
    assert (found(None), found(160), found(224)) == ([1], [4, 2], [])
