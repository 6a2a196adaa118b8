"""Deletion by record: what is kept is never deleted, and all else goes within a day."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from core.store.db.ids import new_id
from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion
from core.store.errors import StorageUnavailable
from core.store.jobs import lifecycle
from core.store.jobs.lifecycle import NewJob
from core.store.storage import deletions
from core.store.storage.blobs import Blobs
from tests.core.store.samples import OWNER, new_job, stored_job, stored_model
from worker.dispatcher.cleanup import finish_deletions


def empty_job(job_id: str) -> NewJob:
    return NewJob(id=job_id, owner=OWNER, name=None, config={}, classes=[], warnings=[], images=[])


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


def keys(blobs: Blobs) -> list[str]:
    return sorted(blob.key for blob in blobs.list(""))


def prefixes(database: Database) -> list[str]:
    with database.read() as session:
        return sorted(session.scalars(select(Deletion.prefix)))


def time_passes(database: Database, by: timedelta) -> None:
    """Shift all deletions into the past, relative to the database's clock."""
    with database.write() as session:
        for row in session.scalars(select(Deletion).where(Deletion.due_at.is_not(None))):
            assert row.due_at is not None
            row.due_at -= by


def announce(database: Database, prefix: str) -> None:
    with database.write() as session:
        deletions.announce(session, prefix)


def keep(database: Database, prefix: str) -> None:
    with database.write() as session:
        deletions.keep(session, prefix)


def test_only_what_is_kept_stays(database: Database, blobs: Blobs) -> None:
    for prefix, kept in (("jobs/a", True), ("jobs/b", False), ("jobs/a/report-1.json", False)):
        with deletions.unless_kept(database, blobs, prefix):
            assert prefixes(database) == [prefix]
            blobs.put(prefix if prefix.endswith("json") else f"{prefix}/0", b"x")
            if kept:
                keep(database, prefix)
        assert prefixes(database) == []
    assert keys(blobs) == ["jobs/a/0"]


@pytest.mark.parametrize("kept", [True, False])
def test_an_error_after_the_commit_deletes_nothing(database: Database, blobs: Blobs, kept: bool) -> None:
    """The row decides, not the error, even after a commit whose response was lost."""

    def fail() -> None:
        with deletions.unless_kept(database, blobs, "jobs/a"):
            blobs.put("jobs/a/0", b"x")
            if kept:
                keep(database, "jobs/a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (keys(blobs), prefixes(database)) == ((["jobs/a/0"] if kept else []), [])


def test_files_of_a_killed_process_go_after_a_day(database: Database, blobs: Blobs) -> None:
    announce(database, "jobs/a")
    announce(database, "jobs/b/report-1.json")
    for key in ("jobs/a/0", "jobs/b/0", "jobs/b/report-1.json.12ab34cd.part", "jobs/b/report-10.json"):
        blobs.put(key, b"x")
    time_passes(database, timedelta(hours=23))
    assert finish_deletions(database, blobs) == []
    time_passes(database, timedelta(hours=1))
    assert sorted(finish_deletions(database, blobs)) == ["jobs/a", "jobs/b/report-1.json"]
    assert keys(blobs) == ["jobs/b/0", "jobs/b/report-10.json"]
    assert prefixes(database) == []


def test_a_deletion_that_has_begun_can_not_be_stopped(
    database: Database, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload of more than a day commits nothing, even if the clock is set back meanwhile."""
    job_id = new_id("job")
    announce(database, f"jobs/{job_id}")
    time_passes(database, timedelta(days=1))

    def commits(self: Blobs, prefix: str, **given: object) -> None:
        with database.write() as session:
            back = {"due_at": database_now(session) + timedelta(days=400)}
            session.execute(update(Deletion).where(Deletion.due_at.is_not(None)).values(**back))
        with pytest.raises(StorageUnavailable), database.write() as session:
            lifecycle.create(session, empty_job(job_id))

    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "delete_prefix", commits)
        assert finish_deletions(database, blobs) == [f"jobs/{job_id}"]
    with pytest.raises(StorageUnavailable):
        keep(database, f"jobs/{job_id}")


def test_nothing_is_created_without_a_record(database: Database) -> None:
    with pytest.raises(StorageUnavailable, match="not recorded"), database.write() as session:
        lifecycle.create(session, empty_job("job_1"))


def test_nothing_is_deleted_because_a_row_is_missing(database: Database, blobs: Blobs) -> None:
    """The database was lost, or restored from an old backup."""
    for key in (f"jobs/{new_id('job')}/0", f"models/{new_id('mdl')}/weights", "probe-1/probe", "notes.txt"):
        blobs.put(key, b"x")
    before = keys(blobs)
    assert finish_deletions(database, blobs) == []
    assert keys(blobs) == before


@pytest.mark.parametrize("store", [lambda database, blobs: new_job(database), stored_job, stored_model])
def test_what_exists_has_no_deletion(
    database: Database, blobs: Blobs, store: Callable[[Database, Blobs], str]
) -> None:
    made = store(database, blobs)
    assert not any(prefix.endswith(made) for prefix in prefixes(database))
