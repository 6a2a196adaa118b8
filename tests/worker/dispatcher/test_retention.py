"""Retention: what is older than its setting goes, in batches, and nothing else."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from core.settings import Settings
from core.store import retention
from core.store.accounts import audit
from core.store.backup import create, snapshots
from core.store.db.session import Database, database_now
from core.store.db.tables import (
    Alias,
    AuditEntry,
    Deletion,
    IdempotencyKey,
    Installation,
    Job,
    JobEvent,
    JobImage,
    Model,
    WebhookDelivery,
)
from core.store.errors import StorageUnavailable
from core.store.jobs import jobs
from core.store.registry import aliases, models
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs
from core.store.webhooks import deliveries
from tests.core.store.backup.test_backup import stored_job, stored_model
from tests.core.store.samples import OWNER
from tests.core.store.storage.test_blobs import bucket
from worker.dispatcher.cleanup import (
    RETENTION_PAUSE_SECONDS,
    Cleaner,
    enforce_retention,
    finish_deletions,
)

DAYS = 30
OLD, YOUNG = timedelta(days=DAYS, seconds=1), timedelta(days=DAYS, hours=-1)


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    if request.param == "folder":
        yield Blobs((tmp_path / "blobs").as_uri())
    else:
        endpoint, name = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket")
        yield bucket(endpoint, name, "kept")


def enforce(database: Database, blobs: Blobs, **days: int) -> dict[str, int]:
    given = {f"keep_{kind}_days": number for kind, number in {"audit": 0, "webhooks": 0, **days}.items()}
    found = enforce_retention(Settings(**given), database, blobs)  # type: ignore[arg-type]
    return {kind: number for kind, number in found.items() if number}


def ended_job(database: Database, blobs: Blobs, age: timedelta, **given: Any) -> str:
    """Create a cancelled job with images, whose end is `age` ago by the database's clock."""
    job_id = stored_job(database, blobs, **given)
    with database.write() as session:
        jobs.request_cancel(session, job_id, owner=given.get("owner", OWNER))
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
    set_age(database, Model, model_id, created_at=timedelta(days=10_000))
    before = keys(blobs)
    assert enforce(database, blobs) == {}
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
        patch.setattr(retention, "FOLDERS", 2)
        assert enforce(database, blobs, jobs=DAYS) == {"jobs": 4}
    assert ids(database, Job) == {young, queued}
    assert ids(database, Model) == {model_id}
    left = {key.split("/")[1] for key in keys(blobs)}
    assert left == {young, queued, model_id}
    assert not left & {*old, trained}
    assert enforce(database, blobs, jobs=DAYS) == {}


def test_old_images(database: Database, blobs: Blobs) -> None:
    """The job stays with its report, and takes no space of the quota."""
    old, same_moment, young = (ended_job(database, blobs, age) for age in (OLD, OLD, YOUNG))
    with database.write() as session:  # jobs that ended in one moment, split over two batches
        moment = session.get_one(Job, old).finished_at
        session.execute(update(Job).where(Job.id == same_moment).values(finished_at=moment))
    queued = stored_job(database, blobs)
    blobs.put(f"jobs/{old}/report-1.json", b"{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "FOLDERS", 1)
        assert enforce(database, blobs, images=DAYS) == {"images": 2}
    assert {key for key in keys(blobs) if old in key or same_moment in key} == {f"jobs/{old}/report-1.json"}
    assert len([key for key in keys(blobs) if young in key or queued in key]) == 4
    with database.read() as session:
        assert set(session.scalars(select(JobImage.job_id))) == {young, queued}
        assert session.get_one(Job, old).image_bytes == 0
        assert session.get_one(Job, young).image_bytes > 0
    set_age(database, Job, young, finished_at=OLD)
    assert enforce(database, blobs, images=DAYS) == {"images": 1}


def test_no_image_goes_during_a_backup(database: Database, blobs: Blobs) -> None:
    ended_job(database, blobs, OLD)
    before = keys(blobs)
    with database.write() as session:
        deletions.hold(session)
    assert enforce(database, blobs, images=DAYS) == {"images": 1}
    assert keys(blobs) == before
    with database.write() as session:
        installation.find(session, lock=True).hold_until = None
    assert len(finish_deletions(database, blobs)) == 1
    assert keys(blobs) == set()


def test_a_backup_that_begins_during_the_deletion_of_images_lacks_no_file(
    database: Database, database_url: str, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage is called without a transaction: while it hangs, others write to the database."""
    ended_job(database, blobs, OLD)
    young = ended_job(database, blobs, YOUNG)
    backup = snapshots.Backup(tmp_path / "backup", tmp_path / "scratch")
    real, made = Blobs.delete_prefix, []

    def delete(blobs: Blobs, prefix: str, **given: Any) -> None:
        made.append(create.create(database_url, database, blobs, backup)[1])
        real(blobs, prefix, **given)

    monkeypatch.setattr(Blobs, "delete_prefix", delete)
    assert enforce(database, blobs, images=DAYS) == {"images": 1}
    assert [(manifest.rows["job_images"], manifest.missing) for manifest in made] == [(2, [])]
    assert keys(blobs) == {f"jobs/{young}/{number}" for number in range(2)}


def test_a_missing_image_does_not_stop_the_retention(database: Database, blobs: Blobs) -> None:
    for age in (OLD + timedelta(days=1), OLD):
        blobs.delete(f"jobs/{ended_job(database, blobs, age)}/0")
    assert enforce(database, blobs, images=DAYS) == {"images": 2}
    assert keys(blobs) == set()


@pytest.mark.parametrize("step", ["before", "after"])
def test_a_killed_deletion_of_images_is_finished(
    database: Database, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A restored database has the deletion too, and its retention begins again."""
    job_id = ended_job(database, blobs, OLD)
    real = Blobs.delete_prefix

    def die(blobs: Blobs, prefix: str, **given: Any) -> None:
        if step == "after":
            real(blobs, prefix, **given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "delete_prefix", die)
        with pytest.raises(KeyboardInterrupt):
            enforce(database, blobs, images=DAYS)
    assert (keys(blobs) == set()) == (step == "after")
    with database.write() as session:
        assert session.scalars(select(JobImage)).all() == []
        installation.find(session, lock=True).images_until = None
        assert retention.delete_images(session, timedelta(days=DAYS)) == [f"jobs/{job_id}/images"]
    assert finish_deletions(database, blobs) == [f"jobs/{job_id}/images"]
    assert keys(blobs) == set()
    with database.read() as session:
        assert session.scalars(select(Deletion.prefix)).all() == []


def test_images_wait_for_a_lost_folder(database: Database, tmp_path: Path) -> None:
    """Its deletion stays, and is done once the folder is back."""
    blobs = Blobs((tmp_path / "blobs").as_uri())
    ended_job(database, blobs, OLD)
    (tmp_path / "blobs").rename(tmp_path / "lost")
    with pytest.raises(StorageUnavailable):
        enforce(database, blobs, images=DAYS)
    (tmp_path / "lost").rename(tmp_path / "blobs")
    assert len(finish_deletions(database, blobs)) == 1
    assert keys(blobs) == set()


def test_old_events(database: Database, blobs: Blobs) -> None:
    """The last event stays, so that a stream of the job ends."""
    old, young = ended_job(database, blobs, OLD), ended_job(database, blobs, YOUNG)
    assert enforce(database, blobs, events=DAYS) == {"events": 1}
    with database.read() as session:
        types = {
            job_id: list(
                session.scalars(select(JobEvent.type).where(JobEvent.job_id == job_id).order_by(JobEvent.seq))
            )
            for job_id in (old, young)
        }
    assert types == {old: ["cancelled"], young: ["queued", "cancelled"]}


def test_models_without_alias_and_use(database: Database, blobs: Blobs) -> None:
    unused, used, aliased, young = (
        stored_model(database, blobs, name=name) for name in ("unused", "used", "aliased", "young")
    )
    for model_id in (unused, used, aliased):
        set_age(database, Model, model_id, created_at=OLD)
    with database.write() as session:
        aliases.promote(session, "aliased", "prod", aliased, owner=OWNER)
        models.record_use(session, used)
    assert enforce(database, blobs, models=DAYS) == {"models": 1}
    assert ids(database, Model) == {used, aliased, young}
    assert not any(unused in key for key in keys(blobs))
    set_age(database, Model, used, last_used_at=OLD)
    assert enforce(database, blobs, models=DAYS) == {"models": 1}
    with database.write() as session:
        aliases.remove(session, "aliased", "prod", owner=OWNER)
        assert session.scalar(select(func.count()).select_from(Alias)) == 0
    assert enforce(database, blobs, models=DAYS) == {"models": 1}
    assert ids(database, Model) == {young}


def test_the_model_of_an_unfinished_job_stays(database: Database, blobs: Blobs) -> None:
    model_id = stored_model(database, blobs)
    set_age(database, Model, model_id, created_at=OLD)
    with database.write() as session:
        session.execute(update(Job).where(Job.model_id == model_id).values(status="running"))
    assert enforce(database, blobs, models=DAYS) == {}
    assert ids(database, Model) == {model_id}


def test_the_use_of_a_model_is_recorded_once_per_hour(database: Database, blobs: Blobs) -> None:
    model_id = stored_model(database, blobs)

    def used() -> Any:
        with database.write() as session:
            models.record_use(session, model_id)
        with database.read() as session:
            return session.get_one(Model, model_id).last_used_at

    first = used()
    assert used() == first
    set_age(database, Model, model_id, last_used_at=timedelta(minutes=61))
    assert used() >= first


def test_old_audit_entries_and_deliveries(database: Database, blobs: Blobs) -> None:
    with database.write() as session:
        deliveries.secret(session, OWNER)
        for number in range(5):
            audit.record(session, "key.create", f"key_{number}")
    entries = sorted(ids(database, AuditEntry))
    for entry in entries[:3]:
        set_age(database, AuditEntry, entry, at=OLD)
    jobs_with_webhook = [ended_job(database, blobs, YOUNG, webhook="https://example.com/") for _ in range(3)]
    with database.write() as session:
        first, second, _ = deliveries.take_due(session, limit=9)
        deliveries.record_delivered(session, first, status=200)
        deliveries.record_failed(session, second, reason="late", delay=None)
    set_age(database, WebhookDelivery, first.id, finished_at=OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "ROWS", 2)
        assert enforce(database, blobs, audit=DAYS, webhooks=DAYS) == {"audit": 3, "webhooks": 1}
    assert sorted(ids(database, AuditEntry)) == entries[3:]
    assert first.id not in ids(database, WebhookDelivery)
    assert len(ids(database, WebhookDelivery)) == 2
    assert set(jobs_with_webhook) <= ids(database, Job)


def test_a_failing_storage_delays_no_other_kind(
    database: Database, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended_job(database, blobs, OLD)
    with database.write() as session:
        audit.record(session, "key.create", "key_1")
    for entry in ids(database, AuditEntry):
        set_age(database, AuditEntry, entry, at=OLD)
    calls = []

    def fail(blobs: Blobs, prefix: str) -> None:
        calls.append(prefix)
        raise StorageUnavailable("The storage is away.")

    monkeypatch.setattr(Blobs, "delete_prefix", fail)
    settings = Settings(keep_jobs_days=DAYS, keep_audit_days=DAYS)
    enforce_retention(settings, database, blobs, guard=partial(suppress, StorageUnavailable))
    assert calls == [jobs.blobs_of(job_id)]
    assert ids(database, AuditEntry) == set()


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
        audit.record(session, "key.create", "key_1")
        session.add(Deletion(prefix="jobs/job_x", due_at=database_now(session) - timedelta(days=399)))
        deletions.mark_for_deletion(session, "models/mdl_x")
        session.add(
            IdempotencyKey(
                owner=OWNER, key="k", fingerprint="", job_id=job_id, created_at=database_now(session) - OLD
            )
        )
    blobs.put("jobs/job_x/0", b"x")
    entries = ids(database, AuditEntry)
    with database.write() as session:
        before = database_now(session) - timedelta(days=400)
        session.execute(update(AuditEntry).values(at=before))
        session.execute(update(Job).values(created_at=before))
        session.execute(update(Installation).values(created_at=before))
    set_trusted(database, timedelta(days=400) if noted else None)
    stored = keys(blobs)
    for _ in range(10):
        assert enforce(database, blobs, jobs=DAYS, audit=DAYS, events=DAYS, images=DAYS) == {}
        assert finish_deletions(database, blobs) in ([], ["models/mdl_x"])  # which was deleted by a person
    assert keys(blobs) == stored
    assert (ids(database, Job), ids(database, AuditEntry)) == ({job_id}, entries)
    with database.read() as session:
        assert session.scalars(select(IdempotencyKey)).all() != []
        assert session.scalars(select(Deletion.prefix)).all() == ["jobs/job_x"]
    assert "The clock is far ahead" in caplog.text
    set_trusted(database, timedelta(0))
    assert finish_deletions(database, blobs) == ["jobs/job_x"]
    assert enforce(database, blobs, jobs=DAYS, audit=DAYS) == {"jobs": 1, "audit": 1}


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
        assert retention.trusts_clock(session)
    with database.read() as session:
        trusted = installation.find(session).clock_at
        assert trusted is not None
        assert trusted <= database_now(session)


def test_there_is_a_pause_between_batches(database: Database, blobs: Blobs) -> None:
    """SQLite grants its lock to whoever asks, so other processes need the pause to write."""
    done = threading.Event()
    waits = []

    class Recorded(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if waits.count(RETENTION_PAUSE_SECONDS) == 5:
                done.set()
            return super().wait(0.001)

    with database.write() as session:
        for number in range(3):
            audit.record(session, "key.create", f"key_{number}")
    for entry in ids(database, AuditEntry):
        set_age(database, AuditEntry, entry, at=OLD)
    cleaner = Cleaner(
        Settings(keep_audit_days=DAYS, keep_webhooks_days=0),
        database,
        blobs,
        guard=nullcontext,
    )
    cleaner._stop = Recorded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "ROWS", 1)
        patch.setattr("worker.dispatcher.cleanup.RETENTION_SECONDS", 0.0)
        cleaner.start()
        assert done.wait(600)
        cleaner.stop(600)
    assert waits.count(RETENTION_PAUSE_SECONDS) >= 5
    assert ids(database, AuditEntry) == set()
