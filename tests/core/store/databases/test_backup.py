"""Backup while the service works, restoration on the other kind of database and storage, and verification."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import obstore
import pytest
from sqlalchemy import inspect, select, text
from typer.testing import CliRunner

from admin import snapshots
from admin.snapshots import TABLES, Backup, BackupError
from api.models import aliases
from clipcite.__main__ import app
from core.clip.weights.manifest import MANIFEST, WEIGHTS
from core.store import backbones
from core.store.accounts import api_keys, owners
from core.store.db import migrate
from core.store.db.session import Database
from core.store.db.tables import QUEUED
from core.store.errors import BlobDamaged
from core.store.jobs import jobs
from core.store.storage import deletions, installation
from core.store.storage.blobs import Blobs
from tests.core.store.races import meanwhile
from tests.core.store.samples import bucket, claimed, delete_job, job_of, stored_job, stored_model
from worker.dispatcher.cleanup import finish_deletions

Target = tuple[str, Blobs]


def rows_of(database: Database) -> dict[str, list[str]]:
    """Return the rows of each table as sorted JSON."""
    with database.read() as session:
        return {
            table.name: sorted(
                json.dumps(row._asdict(), sort_keys=True, default=datetime.isoformat)
                for row in session.execute(select(table))
            )
            for table in TABLES
        }


@dataclass
class Source:
    """An installation, and a folder for its backup."""

    url: str
    database: Database
    blobs: Blobs
    backup: Backup

    def job(self, **given: Any) -> str:
        return stored_job(self.database, self.blobs, **given)

    def back_up(self) -> snapshots.Snapshot:
        return snapshots.create(self.url, self.database, self.blobs, self.backup)

    def problems(self) -> list[str]:
        return snapshots.verify_installation(self.database, self.blobs).problems


@pytest.fixture
def source(request: pytest.FixtureRequest, database_url: str, database: Database, tmp_path: Path) -> Source:
    """Return an installation with a folder beside SQLite, or a bucket beside PostgreSQL."""
    if database_url.startswith("sqlite"):
        blobs = Blobs((tmp_path / "data" / "blobs").as_uri())
    else:
        endpoint, name = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket")
        blobs = bucket(endpoint, name, "source")
    return Source(database_url, database, blobs, Backup(tmp_path / "backup", tmp_path / "scratch"))


@pytest.fixture
def target(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Target]:
    """Return an empty installation of the other kind."""
    if database_url.startswith("sqlite"):
        from tests.conftest import postgres_database

        endpoint, name = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket")
        with postgres_database(request.getfixturevalue("postgres_url")) as url:
            yield url, bucket(endpoint, name, "target")
    else:
        yield f"sqlite:///{tmp_path}/target/clipcite.db", Blobs((tmp_path / "target" / "blobs").as_uri())


def test_the_other_kind_of_installation_is_equal(source: Source, target: Target) -> None:
    installation.check(source.database, source.blobs, bind=True)
    with source.database.write() as session:
        owners.ensure(session, "team-b")
        kept = api_keys.create(session, owner="team-b", scopes=["classify"])
        revoked = api_keys.create(session, owner="default", scopes=["admin"])
        api_keys.revoke(session, revoked.row.id)
    first = stored_model(source.database, source.blobs, name="foxes")
    second = stored_model(source.database, source.blobs, name="foxes", delta_format="4bit")
    with source.database.write() as session:
        for model in (first, second):
            aliases.move_to(session, "foxes", "production", model, owner="default")
    queued = source.job(owner="team-b", name="größer 🦊")
    running = source.job()
    claimed(source.database, running)
    with source.database.write() as session:
        backbones.request_pull(session, "ViT-B-16/openai", use=True)

    assert not source.back_up().missing
    before = rows_of(source.database)
    result = snapshots.restore(*target, source.backup)

    assert (result.requeued, result.keys) == ([running], [kept.row.prefix])
    restored = Database(target[0])
    try:
        after = rows_of(restored)
        # The running job is queued again.
        for table in before.keys() - {"jobs", "job_events", "installation"}:
            assert after[table] == before[table], table
        for job_id in (queued, running):
            owner = "team-b" if job_id == queued else "default"
            job = job_of(restored, job_id, owner=owner)
            assert (job.status, job.attempts, job.lease_token, job.dispatched_at) == (QUEUED, 0, None, None)
        assert claimed(restored, running).attempt == 1
        keys = {blob.key for blob in source.blobs.list("")}
        assert {blob.key for blob in target[1].list("")} == keys - {installation.KEY}
        assert all(
            target[1].get(blob.key) == source.blobs.get(blob.key) for blob in source.blobs.list("models")
        )
        assert snapshots.verify_installation(restored, target[1]).problems == []
        installation.check(restored, target[1])
        with restored.read() as session:
            assert backbones.pulls(session) == []  # nothing is downloaded again
    finally:
        restored.close()


def test_changes_during_a_backup(source: Source, target: Target) -> None:
    """Threads add and delete jobs. The snapshot is of one moment, and all its files are in the backup."""
    doomed = [source.job() for _ in range(20)]

    def delete() -> None:
        if doomed:
            job_id = doomed.pop()
            delete_job(source.database, job_id)
            deletions.finish(source.database, source.blobs, jobs.blobs_of(job_id))

    with meanwhile(delete, source.job):
        made = [source.back_up() for _ in range(3)]
    for snapshot in made:
        assert not snapshot.missing
        assert snapshot.rows["job_images"] == 2 * snapshot.rows["jobs"]
        checked = snapshots.verify_backup(source.backup, snapshot.name)
        assert checked.problems == []
        assert checked.blobs == snapshot.rows["job_images"]
    restored = snapshots.restore(*target, source.backup)
    assert restored.rows == sum(made[-1].rows.values())


def test_deletions_wait_for_the_backup(source: Source) -> None:
    job_id = source.job()
    with source.database.write() as session:
        deletions.hold(session)
    delete_job(source.database, job_id)
    prefix = jobs.blobs_of(job_id)
    deletions.finish(source.database, source.blobs, prefix)
    assert source.blobs.list("jobs")
    assert finish_deletions(source.database, source.blobs) == []
    with source.database.write() as session:
        installation.find(session).hold_until = None
    assert finish_deletions(source.database, source.blobs) == [prefix]


def test_nothing_is_deleted_while_the_database_is_down(source: Source, tmp_path: Path) -> None:
    """A backup may be in progress. The dispatcher deletes the files later."""
    source.blobs.put("jobs/a/1", b"an image")
    assert not deletions.finish(Database(f"sqlite:///{tmp_path}/missing/x.db"), source.blobs, "jobs/a")
    assert source.blobs.get("jobs/a/1") == b"an image"


def test_a_second_snapshot_copies_only_new_files(source: Source, tmp_path: Path) -> None:
    source.job()
    first = source.back_up().name
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "backup" / "blobs").rglob("*.*")}
    gone = source.job()
    second = source.back_up()
    assert (first != second.name, second.blobs) == (True, 4)
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())
    delete_job(source.database, gone)
    with source.database.write() as session:
        installation.find(session).hold_until = None
    deletions.finish(source.database, source.blobs, jobs.blobs_of(gone))
    third = source.back_up().name
    assert snapshots.prune(source.backup, keep=1) == [first, second.name]
    assert source.backup.names() == [third]
    assert len(source.backup.list("blobs")) == 2
    assert snapshots.verify_backup(source.backup).problems == []


def test_a_file_of_another_program_is_in_no_backup(source: Source) -> None:
    """The Finder leaves such a file in each folder that it shows."""
    job = source.job()
    obstore.put(source.blobs._store, f"jobs/{job}/.DS_Store", b"x")
    obstore.put(source.backup._store, "blobs/.DS_Store", b"x")
    assert source.back_up().blobs == 2
    source.back_up()
    assert len(snapshots.prune(source.backup, 1)) == 1
    assert snapshots.verify_backup(source.backup).problems == []


def test_a_used_storage_is_refused(source: Source, target: Target) -> None:
    source.job()
    source.back_up()
    target[1].put("jobs/other/1", b"of somebody else")
    with pytest.raises(BackupError, match="other files"):
        snapshots.restore(*target, source.backup)


def test_a_changed_file_is_found(source: Source, target: Target) -> None:
    model = stored_model(source.database, source.blobs)
    source.back_up()
    source.blobs.put(f"models/{model}/{WEIGHTS}", b"X" * len(f"weights of {model}"))
    assert source.problems() == [f"models/{model}/{WEIGHTS}: its content has changed"]
    source.blobs.delete(f"models/{model}/{MANIFEST}")
    assert f"models/{model}/{MANIFEST}: missing" in source.problems()
    source.backup.put(f"blobs/models/{model}/{MANIFEST}", b"[]")
    assert snapshots.verify_backup(source.backup).problems == [
        f"models/{model}/{MANIFEST}: its content has changed"
    ]
    with pytest.raises(BlobDamaged):
        snapshots.restore(*target, source.backup)
    with migrate.migrating(target[0]) as connection:
        assert inspect(connection).get_table_names() == []


@pytest.mark.slow
@pytest.mark.mounts
def test_a_backup_on_a_read_only_mount_is_restored(migrated: Path, tmp_path: Path) -> None:
    data, backup = tmp_path / "data", str(tmp_path / "backup")
    data.mkdir()
    shutil.copy(migrated, data / "clipcite.db")

    def run(folder: Path, *arguments: str) -> int:
        return CliRunner().invoke(app, [*arguments, "--data", str(folder)]).exit_code

    assert run(data, "backup", backup) == 0
    subprocess.run(["mount", "--bind", backup, backup], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", backup], check=True)
        assert run(tmp_path / "other", "restore", backup) == 0
        assert run(data, "verify", backup) == 0
        refused = CliRunner().invoke(app, ["backup", backup, "--data", str(data)])
        assert refused.exit_code == 1
    finally:
        subprocess.run(["umount", "--lazy", backup], check=True)
    assert f"The backup {backup} can't be written (Read-only file system)." in refused.stderr


@pytest.mark.parametrize("to_read", [False, True])
def test_a_backup_is_held_by_one_process(tmp_path: Path, to_read: bool) -> None:
    with snapshots.lock(tmp_path), pytest.raises(BackupError, match="Another process"):
        snapshots.lock(tmp_path, to_read=to_read).__enter__()


def test_a_copy_has_an_id_of_its_own(source: Source, target: Target) -> None:
    installation.check(source.database, source.blobs, bind=True)
    source.back_up()
    snapshots.restore(*target, source.backup)
    copy = Database(target[0])
    installation.check(copy, target[1], bind=True)
    copy.close()
    assert target[1].get(installation.KEY) != source.blobs.get(installation.KEY)


def test_a_backup_of_an_older_version_is_migrated(
    source: Source, target: Target, request: pytest.FixtureRequest
) -> None:
    """A newer one is refused."""
    job_id = source.job(name="shoes")
    source.back_up()
    request.getfixturevalue("next_version")
    snapshots.restore(*target, source.backup)
    with migrate.migrating(target[0]) as connection:
        assert connection.execute(text("SELECT id, name, note FROM jobs")).one() == (
            job_id,
            "shoes",
            "was shoes",
        )


def test_files_that_are_being_stored_are_in_no_backup(source: Source, target: Target) -> None:
    """The restored copy has no deletion of them, and deletes nothing else."""
    job_id = source.job()
    doomed = ["jobs/job_x/0", f"jobs/{job_id}/report-1.json", f"jobs/{job_id}/checkpoints/aa/state"]
    with source.database.write() as session:
        for prefix in ("jobs/job_x", doomed[1], f"jobs/{job_id}/checkpoints/aa"):
            deletions.announce(session, prefix)
    for key in doomed:
        source.blobs.put(key, b"x")
    source.back_up()
    migrate.upgrade(target[0])
    restored = Database(target[0])
    try:
        with restored.write() as session:  # of a job that was deleted in this database before
            deletions.mark_for_deletion(session, f"jobs/{job_id}")
        snapshots.restore(*target, source.backup)
        assert finish_deletions(restored, target[1]) == []
        assert {key for key in (b.key for b in target[1].list("jobs"))} == {
            f"jobs/{job_id}/{number}" for number in range(2)
        }
    finally:
        restored.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_clock_that_was_ahead_costs_no_new_snapshot(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Ahead":
            return cls.fromtimestamp(time.time() + 365 * 86_400, tz)

    made = []
    for clock in (Ahead, Ahead, datetime, datetime):
        monkeypatch.setattr(snapshots, "datetime", clock)
        made.append(source.back_up().name)
        assert made[-1] not in snapshots.prune(source.backup, keep=2)
        assert snapshots.read(source.backup, None).name == made[-1]
    assert made == sorted(set(made))
    assert source.backup.names() == made[-2:]


@pytest.mark.parametrize("command", ["restore", "verify"])
def test_a_missing_folder_is_not_created(command: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [command, str(tmp_path / "none"), "--data", str(tmp_path / "data")])
    assert done.exit_code == 2
    assert f"There is no folder {tmp_path / 'none'}" in done.output.replace("\n", "")
    assert list(tmp_path.iterdir()) == []
