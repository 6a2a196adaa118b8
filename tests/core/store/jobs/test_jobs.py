"""The API's operations on jobs: create, show, list, cancel, delete."""

from datetime import UTC

from sqlalchemy import update

from core.store.db.pagination import cursor_of
from core.store.db.session import Database, database_now
from core.store.db.tables import Job
from core.store.jobs import jobs
from tests.core.store.samples import OWNER, job_of, new_image, new_job, types_of


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


def test_pages_are_newest_first_even_if_many_are_created_at_once(database: Database) -> None:
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
