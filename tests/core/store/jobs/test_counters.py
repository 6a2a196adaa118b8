"""Numbers of jobs per owner: kept with every change, and counted again where other software changed jobs."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from core.store.db.session import Database
from core.store.db.tables import CANCELLED, FAILED, QUEUED, RUNNING, STATUSES, Job, Owner
from core.store.jobs import counters, jobs, leases
from tests.core.store.samples import OWNER, claimed, expire, let_lease_expire, new_job, new_owner, publish
from tests.core.store.test_races import at_once


def numbers(database: Database, owner: str = OWNER) -> dict[str, int]:
    with database.read() as session:
        assert counters.wrong_owners(session) == []
        row = session.get_one(Owner, owner)
        return {status: n for status in STATUSES if (n := getattr(row, status))}


@pytest.mark.parametrize("evaluate", [False, True])
def test_each_change_is_counted(database: Database, evaluate: bool) -> None:
    job_id = new_job(database)
    assert numbers(database) == {"queued": 1}
    claim = claimed(database, job_id)
    assert numbers(database) == {"running": 1}
    let_lease_expire(database, job_id)
    expire(database)
    assert numbers(database) == {"queued": 1}
    claim = claimed(database, job_id)
    publish(database, claim, evaluate=evaluate)
    assert numbers(database) == ({"running": 1} if evaluate else {"succeeded": 1})
    if evaluate:
        with database.write() as session:
            jobs.request_cancel(session, job_id, owner=OWNER)
            leases.finish_cancelled(session, claim)
        assert numbers(database) == {"succeeded": 1}
    with database.write() as session:
        jobs.delete(session, job_id, owner=OWNER)
    assert numbers(database) == {}


@pytest.mark.parametrize("status", [FAILED, CANCELLED, QUEUED])
def test_the_end_of_an_attempt_is_counted(database: Database, status: str) -> None:
    claim = claimed(database, new_job(database))
    with database.write() as session:
        if status == FAILED:
            leases.finish_failed(session, claim, code="x", detail="y")
        elif status == CANCELLED:
            leases.finish_cancelled(session, claim)
        else:
            leases.requeue(session, claim, spend_attempt=True, max_attempts=2, code="x", detail="y")
    assert numbers(database) == {status: 1}


@pytest.mark.parametrize("remove", [jobs.request_cancel, jobs.delete])
def test_an_owner_waits_since_its_oldest_queued_job(database: Database, remove: Callable[..., Any]) -> None:
    first, second = new_job(database), new_job(database)
    with database.write() as session:
        remove(session, first, owner=OWNER)
    with database.read() as session:
        assert session.get_one(Owner, OWNER).waiting_since == session.get_one(Job, second).created_at


def test_a_change_that_is_rolled_back_is_not_counted(database: Database) -> None:
    job_id = new_job(database)

    def cancel_and_fail() -> None:
        with database.write() as session:
            jobs.request_cancel(session, job_id, owner=OWNER)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cancel_and_fail()
    assert numbers(database) == {"queued": 1}


def test_changes_at_once_are_all_counted(database: Database) -> None:
    ids = [new_job(database) for _ in range(12)]

    def cancel(job_id: str) -> None:
        with database.write() as session:
            jobs.request_cancel(session, job_id, owner=OWNER)

    at_once(
        *[lambda job_id=job_id: claimed(database, job_id) for job_id in ids[:4]],
        *[lambda job_id=job_id: cancel(job_id) for job_id in ids[4:8]],
        lambda: counters.reconcile(database),
    )
    assert numbers(database) == {"queued": 4, "running": 4, "cancelled": 4}


def test_jobs_that_older_software_changed_are_counted_again(database: Database) -> None:
    new_owner(database, "other")
    ids = [new_job(database) for _ in range(4)]
    kept = new_job(database, owner="other")
    claimed(database, kept)
    with database.write() as session:  # Without counting, as older software does.
        session.execute(update(Job).where(Job.id == ids[0]).values(status=CANCELLED))
        session.execute(update(Job).where(Job.id == ids[1]).values(status=FAILED))
        session.execute(update(Owner).where(Owner.name == "other").values(failed=7))
    with database.read() as session:
        assert counters.wrong_owners(session, (QUEUED, RUNNING)) == [OWNER]
        assert counters.wrong_owners(session) == [OWNER, "other"]
    assert counters.reconcile(database) == ([OWNER, "other"], "")
    assert numbers(database) == {"queued": 2, "failed": 1, "cancelled": 1}
    assert numbers(database, "other") == {"running": 1}
    with database.read() as session:
        third = session.get_one(Job, ids[2])
        assert session.get_one(Owner, OWNER).waiting_since == third.created_at
    assert counters.reconcile(database) == ([], "")


def test_owners_are_checked_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "PAGE_SIZE", 2)
    for owner in "abde":
        new_job(database, owner=new_owner(database, owner))
    with database.write() as session:
        session.execute(update(Owner).values(queued=7))
    assert OWNER == "default"
    after = ""
    pages: list[tuple[list[str], str]] = []
    while not pages or after:
        wrong, after = counters.reconcile(database, (QUEUED, RUNNING), after=after)
        pages.append((wrong, after))
    assert pages == [(["a", "b"], "b"), (["d", "default"], "default"), (["e"], "")]
    assert numbers(database, "e") == {"queued": 1}
