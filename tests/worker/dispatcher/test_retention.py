"""Retention: what is older than the setting goes, in batches, and nothing else."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from admin import snapshots
from core.settings import Settings
from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion, IdempotencyKey, Installation, Job, Model
from core.store.jobs import lifecycle
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs
from tests.core.store.samples import OWNER, bucket, stored_job, stored_model
from worker.dispatcher import cleanup
from worker.dispatcher.cleanup import enforce_retention, finish_deletions, trusts_clock

DAYS = 30
OLD, YOUNG = timedelta(days=DAYS, seconds=1), timedelta(days=DAYS, hours=-1)


@pytest.fixture
def blobs(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Blobs:
    """Return a folder beside SQLite, and a bucket beside PostgreSQL."""
    if database_url.startswith("sqlite"):
        return Blobs((tmp_path / "blobs").as_uri())
    return bucket(request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket"), "kept")


def enforce(database: Database, blobs: Blobs, days: int = 0) -> int:
    return enforce_retention(Settings(keep_days=days), database, blobs)


def ended_job(database: Database, blobs: Blobs, age: timedelta, **given: Any) -> str:
    """Create a cancelled job with images, whose end is `age` ago by the database's clock."""
    job_id = stored_job(database, blobs, **given)
    with database.write() as session:
        lifecycle.request_cancel(session, job_id, owner=given.get("owner", OWNER))
    set_age(database, Job, job_id, finished_at=age)
    return job_id


def set_age(database: Database, table: Any, row_id: str, **ages: timedelta) -> None:
    with database.write() as session:
        now = database_now(session)
        values = {name: now - age for name, age in ages.items()}
        session.execute(update(table).where(table.id == row_id).values(**values))


def ids(database: Database, table: Any) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(table.id)))


def keys(blobs: Blobs) -> set[str]:
    return {blob.key for blob in blobs.list("")}


def test_nothing_is_deleted_by_default(database: Database, blobs: Blobs) -> None:
    job_id = ended_job(database, blobs, timedelta(days=10_000))
    model_id = stored_model(database, blobs)
    before = keys(blobs)
    assert enforce(database, blobs) == 0
    assert job_id in ids(database, Job)
    assert model_id in ids(database, Model)
    assert keys(blobs) == before


def test_old_jobs(database: Database, blobs: Blobs) -> None:
    """Several batches. Queued and younger jobs stay, and the model of a deleted job."""
    old = [ended_job(database, blobs, OLD) for _ in range(3)]
    young, queued = ended_job(database, blobs, YOUNG), stored_job(database, blobs)
    model_id = stored_model(database, blobs)
    with database.read() as session:
        trained = session.get_one(Model, model_id).job_id
    assert trained is not None
    set_age(database, Job, trained, finished_at=OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "BATCH", 2)
        assert enforce(database, blobs, DAYS) == 4
    assert ids(database, Job) == {young, queued}
    assert ids(database, Model) == {model_id}
    left = {key.split("/")[1] for key in keys(blobs)}
    assert left == {young, queued, model_id}
    assert not left & {*old, trained}
    assert enforce(database, blobs, DAYS) == 0


def test_a_backup_that_begins_during_a_deletion_lacks_no_file(
    database: Database, database_url: str, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage is called without a transaction: while it hangs, others write to the database."""
    ended_job(database, blobs, OLD)
    young = ended_job(database, blobs, YOUNG)
    backup = snapshots.Backup(tmp_path / "backup", tmp_path / "scratch")
    real, made = Blobs.delete_prefix, []

    def delete(blobs: Blobs, prefix: str, **given: Any) -> None:
        made.append(snapshots.create(database_url, database, blobs, backup))
        real(blobs, prefix, **given)

    monkeypatch.setattr(Blobs, "delete_prefix", delete)
    assert enforce(database, blobs, DAYS) == 1
    assert [(manifest.rows["job_images"], manifest.missing) for manifest in made] == [(2, [])]
    assert keys(blobs) == {f"jobs/{young}/{number}" for number in range(2)}


def set_trusted(database: Database, ago: timedelta | None) -> None:
    """Set the trusted time. The clock is then ahead of it by `ago`."""
    with database.write() as session:
        row = installation.find(session, lock=True)
        row.clock_at = None if ago is None else database_now(session) - ago


@pytest.mark.parametrize("noted", [True, False])
def test_a_clock_that_is_far_ahead_deletes_nothing(
    database: Database, blobs: Blobs, caplog: pytest.LogCaptureFixture, noted: bool
) -> None:
    """Until a dispatcher has noted a time, the newest row counts."""
    job_id = ended_job(database, blobs, timedelta(days=399))
    with database.write() as session:
        session.add(Deletion(prefix="jobs/job_x", due_at=database_now(session) - timedelta(days=399)))
        deletions.mark_for_deletion(session, "models/mdl_x")
        session.add(
            IdempotencyKey(
                owner=OWNER, key="k", fingerprint="", job_id=job_id, created_at=database_now(session) - OLD
            )
        )
    blobs.put("jobs/job_x/0", b"x")
    with database.write() as session:
        before = database_now(session) - timedelta(days=400)
        session.execute(update(Job).values(created_at=before))
        session.execute(update(Installation).values(created_at=before))
    set_trusted(database, timedelta(days=400) if noted else None)
    stored = keys(blobs)
    for _ in range(10):
        assert enforce(database, blobs, DAYS) == 0
        assert finish_deletions(database, blobs) in ([], ["models/mdl_x"])  # which was deleted by a person
    assert keys(blobs) == stored
    assert ids(database, Job) == {job_id}
    with database.read() as session:
        assert session.scalars(select(IdempotencyKey)).all() != []
        assert session.scalars(select(Deletion.prefix)).all() == ["jobs/job_x"]
    assert "The clock is far ahead" in caplog.text
    set_trusted(database, timedelta(0))
    assert finish_deletions(database, blobs) == ["jobs/job_x"]
    assert enforce(database, blobs, DAYS) == 1


def test_a_pause_of_the_service_ends_by_itself(database: Database, blobs: Blobs) -> None:
    with database.write() as session:
        session.add(Deletion(prefix="jobs/job_x", due_at=database_now(session)))
    set_trusted(database, timedelta(days=7))
    rounds = 1
    while not finish_deletions(database, blobs):
        rounds += 1
    assert rounds == pytest.approx(145, abs=2)  # of a minute: six days in steps of an hour
    set_trusted(database, timedelta(days=-7))  # the clock was set back
    with database.write() as session:
        assert trusts_clock(session)
    with database.read() as session:
        trusted = installation.find(session).clock_at
        assert trusted is not None
        assert trusted <= database_now(session)
