"""The API's operations on jobs: create, show, list, cancel, delete."""

from datetime import UTC

import pytest
from sqlalchemy import func, select, update

from core.store.db.pagination import cursor_of
from core.store.db.session import Database, database_now
from core.store.db.tables import Job, JobEvent, JobImage
from core.store.errors import InvalidCursor, JobConflict, JobNotFound
from core.store.jobs import fair_queue, jobs, leases
from tests.core.store.samples import OWNER, claimed, job_of, new_image, new_job, publish, types_of


def test_a_new_job_is_queued_and_keeps_its_images_in_order(database: Database) -> None:
    names = ["z.jpg", "a.jpg", "ünï 🦊.jpg", "nul\0.jpg", "lone \udce9.jpg"]
    images = [new_image(name, "test" if name == "a.jpg" else "train") for name in names]
    job_id = new_job(database, name="foxes", warnings=[{"code": "x", "detail": "y"}], images=images)

    job = job_of(database, job_id)
    assert (job.status, job.attempts, job.cancel_requested, job.progress) == ("queued", 0, False, None)
    assert job.created_at.tzinfo is UTC
    assert job.warnings == [{"code": "x", "detail": "y"}]
    with database.read() as session:
        stored = jobs.images(session, job_id)
    assert [p.file_name for p in stored] == [*names[:3], "nul\ufffd.jpg", "lone ?.jpg"]
    assert [p.split for p in stored] == ["train", "test", "train", "train", "train"]
    assert types_of(database, job_id) == ["queued"]


def test_pages_come_newest_first_also_when_many_were_made_at_once(database: Database) -> None:
    made = [new_job(database) for _ in range(7)]
    with database.write() as session:
        session.execute(update(Job).values(created_at=database_now(session)))  # All have the same time.
    seen: list[str] = []
    after = None
    more = True
    with database.read() as session:
        while more:
            page, more = jobs.list_page(session, owner=OWNER, status=None, limit=3, after=after)
            seen += [job.id for job in page]
            after = cursor_of(page[-1])
    assert seen == made[::-1]


def test_a_page_is_not_shifted_by_new_jobs(database: Database) -> None:
    made = [new_job(database) for _ in range(3)]
    new_job(database)
    with database.read() as session:
        after = cursor_of(jobs.get(session, made[2], owner=OWNER))
        page, more = jobs.list_page(session, owner=OWNER, status=None, limit=2, after=after)
    assert ([job.id for job in page], more) == ([made[1], made[0]], False)


def test_lists_by_status_and_refuses_an_unknown_cursor(database: Database) -> None:
    running, queued = new_job(database), new_job(database)
    claimed(database, running)
    with database.read() as session:
        page, more = jobs.list_page(session, owner=OWNER, status="queued", limit=100, after=None)
        assert ([job.id for job in page], more) == ([queued], False)
        with pytest.raises(InvalidCursor):
            jobs.list_page(session, owner=OWNER, status=None, limit=1, after="job_none")


def test_queue_positions_count_from_the_next(database: Database) -> None:
    first, second, third = (new_job(database) for _ in range(3))
    claimed(database, first)
    with database.read() as session:
        page, _ = jobs.list_page(session, owner=OWNER, status=None, limit=10, after=None)
        assert fair_queue.positions(session, page) == {second: 1, third: 2}
        assert fair_queue.position(session, jobs.get(session, third, owner=OWNER)) == 2
        assert fair_queue.position(session, jobs.get(session, first, owner=OWNER)) is None


def test_cancel_of_a_queued_job_is_immediate_and_idempotent(database: Database) -> None:
    job_id = new_job(database)
    for _ in range(2):
        with database.write() as session:
            assert jobs.request_cancel(session, job_id, owner=OWNER).status == "cancelled"
    assert types_of(database, job_id) == ["queued", "cancelled"]
    assert job_of(database, job_id).finished_at is not None
    with database.write() as session:  # A message was already sent.
        assert leases.claim(session, job_id, worker="w", lease_seconds=30) is None
        assert fair_queue.take_due(session, redispatch_seconds=30, ahead=4) == []


def test_cancel_of_a_running_job_asks_the_worker(database: Database) -> None:
    job_id = new_job(database)
    claim = claimed(database, job_id)
    for _ in range(2):
        with database.write() as session:
            job = jobs.request_cancel(session, job_id, owner=OWNER)
            assert (job.status, job.cancel_requested) == ("running", True)
    with database.write() as session:
        assert leases.heartbeat(session, claim, lease_seconds=30, progress=None) is True
    with database.write() as session:
        assert leases.finish_cancelled(session, claim)
    assert job_of(database, job_id).status == "cancelled"
    assert types_of(database, job_id) == ["queued", "started", "cancel_requested", "cancelled"]


def test_cancel_of_a_finished_job_is_a_conflict(database: Database) -> None:
    job_id = new_job(database)
    assert publish(database, claimed(database, job_id))
    with database.write() as session, pytest.raises(JobConflict, match="succeeded") as refused:
        jobs.request_cancel(session, job_id, owner=OWNER)
    assert (refused.value.code, refused.value.status) == ("job_already_finished", 409)


def test_delete_takes_images_and_events_along(database: Database) -> None:
    gone, kept = new_job(database), new_job(database)
    with database.write() as session:
        jobs.delete(session, gone, owner=OWNER)
    with database.read() as session:
        with pytest.raises(JobNotFound):
            jobs.get(session, gone, owner=OWNER)
        assert session.scalar(select(func.count()).select_from(JobImage)) == 2
        assert set(session.scalars(select(JobEvent.job_id))) == {kept}


def test_a_running_job_is_not_deleted(database: Database) -> None:
    job_id = new_job(database)
    claimed(database, job_id)
    with database.write() as session, pytest.raises(JobConflict) as refused:
        jobs.delete(session, job_id, owner=OWNER)
    assert refused.value.code == "job_running"
    assert job_of(database, job_id).status == "running"
