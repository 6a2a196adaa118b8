"""An empty storage does not become that of a database with jobs or models."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.store.db.session import Database
from core.store.errors import StorageUnavailable
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.core.store.backup.test_backup import delete_job, stored_job, stored_model
from tests.core.store.storage.test_blobs import bucket
from worker.dispatcher.garbage import bind, collect_garbage

CALLS = (installation.check_present, installation.problem, installation.write_if_empty, bind)


@pytest.mark.parametrize("store", [stored_job, stored_model])
def test_a_lost_mount_is_unavailable_until_it_is_back(
    database: Database, tmp_path: Path, store: Callable[[Database, Blobs], str]
) -> None:
    """After a restart, the mount point is an empty folder."""
    mount, unmounted = tmp_path / "mount", tmp_path / "unmounted"
    blobs = Blobs((mount / "blobs").as_uri())
    installation.write_if_empty(database, blobs)
    store(database, blobs)
    mount.rename(unmounted)
    mount.mkdir()
    with pytest.raises(StorageUnavailable, match="is gone"):
        blobs.put("jobs/x/0", b"x")
    restarted = Blobs((mount / "blobs").as_uri())
    for call in CALLS:
        with pytest.raises(StorageUnavailable, match="If their storage is a mount, mount it") as lost:
            call(database, restarted)
        assert str(tmp_path) not in str(lost.value.public_detail)
    with pytest.raises(StorageUnavailable):
        collect_garbage(database, restarted, grace=installation.HOLD, dry_run=True)
    assert restarted.is_empty()
    mount.rename(tmp_path / "empty")
    unmounted.rename(mount)
    for call in CALLS:
        assert call(database, restarted) is None


def test_another_empty_bucket_is_unavailable_until_it_is_adopted(
    database: Database, s3_endpoint: str, s3_bucket: str
) -> None:
    own, other = (bucket(s3_endpoint, s3_bucket, prefix) for prefix in ("own", "other"))
    installation.write_if_empty(database, own)
    stored_job(database, own)
    other.put("notes.txt", b"of other software")
    for call in CALLS:
        with pytest.raises(StorageUnavailable, match="clipcite storage adopt"):
            call(database, other)
    installation.adopt(database, other)
    for call in CALLS:
        assert call(database, other) is None


def test_a_database_without_jobs_and_models_takes_a_new_storage(database: Database, tmp_path: Path) -> None:
    first = Blobs((tmp_path / "first").as_uri())
    delete_job(database, stored_job(database, first))
    second = Blobs((tmp_path / "second").as_uri())
    installation.write_if_empty(database, second)
    with database.read() as session:
        assert installation.stored_id(second) == installation.find(session).id
