"""A storage is used by its own database only."""

import shutil
from pathlib import Path

import pytest

from core.store.db import migrate
from core.store.db.session import Database
from core.store.errors import StorageUnavailable
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.conftest import postgres_database
from tests.core.store.samples import bucket, delete_job, stored_job


def bind(database: Database, blobs: Blobs) -> None:
    installation.check(database, blobs, bind=True)


def id_of(database: Database) -> str:
    with database.read() as session:
        return installation.find(session).id


def test_another_bucket_is_unavailable_until_a_person_writes_the_id(
    database: Database, s3_endpoint: str, s3_bucket: str
) -> None:
    own, other = (bucket(s3_endpoint, s3_bucket, prefix) for prefix in ("own", "other"))
    bind(database, own)
    stored_job(database, own)
    other.put("notes.txt", b"of other software")
    with pytest.raises(StorageUnavailable, match=f'write {{"id": "{id_of(database)}"}} into'):
        bind(database, other)
    other.put(installation.KEY, f'{{"id": "{id_of(database)}"}}\n'.encode())
    bind(database, other)


def test_a_database_without_files_takes_a_new_storage(database: Database, tmp_path: Path) -> None:
    first = Blobs((tmp_path / "first").as_uri())
    delete_job(database, stored_job(database, first))
    second = Blobs((tmp_path / "second").as_uri())
    bind(database, second)
    assert id_of(database) in second.get(installation.KEY).decode()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"id": 1}', b"\xff"])
def test_an_unreadable_id_counts_as_another_one(database: Database, tmp_path: Path, content: bytes) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    blobs.put(installation.KEY, content)
    with pytest.raises(StorageUnavailable):
        bind(database, blobs)
    assert blobs.get(installation.KEY) == content


def test_an_id_that_was_lost_is_written_again(database: Database, tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    bind(database, blobs)
    stored_job(database, blobs)
    blobs.delete(installation.KEY)
    bind(database, blobs)
    assert id_of(database) in blobs.get(installation.KEY).decode()


def test_of_two_installations_the_second_one_is_refused(
    database: Database, migrated: Path, tmp_path: Path
) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    bind(database, blobs)
    shutil.copy(migrated, tmp_path / "other.db")
    second = Database(f"sqlite:///{tmp_path}/other.db")
    with second.write() as session:
        installation.find(session, lock=True).id = "ins_other"
    with pytest.raises(StorageUnavailable, match=id_of(database)):
        bind(second, blobs)
    second.close()


def test_ids_differ_between_installations(database_url: str, postgres_url: str) -> None:
    with postgres_database(postgres_url) as url:
        migrate.upgrade(url)
        databases = [Database(database_url), Database(url)]
        assert len({id_of(database) for database in databases}) == 2
        for database in databases:
            database.close()
