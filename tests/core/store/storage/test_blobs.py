"""Blobs in a folder and in a bucket: common guarantees, then the failures of each."""

import os
import threading
from pathlib import Path
from typing import Any

import obstore
import pytest

from core.store.errors import BlobDamaged, BlobNotFound, StorageFull, StorageUnavailable
from core.store.storage.blobs import Blobs
from tests.core.store.races import at_once
from tests.core.store.samples import bucket, keys, sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a b%20ü" / "blobs"


@pytest.fixture(params=["file", "s3"])
def either(request: pytest.FixtureRequest, folder: Path) -> Blobs:
    if request.param == "file":
        return Blobs(folder.as_uri())
    return bucket(request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket"))


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder.as_uri())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_bytes_and_files_there_and_back(either: Blobs, tmp_path: Path) -> None:
    large = os.urandom(12_000_000)  # More than one part.
    (tmp_path / "large").write_bytes(large)
    either.put("jobs/a/1", b"small")
    either.put("models/m/weights.safetensors", tmp_path / "large")
    either.put("empty", b"")

    assert either.get("jobs/a/1") == b"small"
    assert either.get("empty") == b""
    either.fetch("models/m/weights.safetensors", tmp_path / "copy", sha256=sha256(large))
    assert (tmp_path / "copy").read_bytes() == large
    either.verify("models/m/weights.safetensors", bytes=len(large), sha256=sha256(large))
    either.verify("empty", bytes=0, sha256=sha256(b""))


def test_listing_and_deleting_a_folder(either: Blobs) -> None:
    for key in ("jobs/a/1", "jobs/a/deep/2", "jobs/ab/1"):
        either.put(key, b"xyz")
    assert sorted((b.key, b.bytes) for b in either.list("jobs/a")) == [("jobs/a/1", 3), ("jobs/a/deep/2", 3)]
    assert len(either.list("")) == 3
    either.delete_prefix("jobs/a")
    either.delete_prefix("jobs/a")  # Already deleted.
    assert keys(either) == ["jobs/ab/1"]
    either.delete("jobs/ab/1")
    either.delete("jobs/ab/1")
    assert keys(either) == []


def test_a_missing_blob_is_named(either: Blobs, tmp_path: Path) -> None:
    for ask in (
        lambda: either.get("no/such"),
        lambda: either.fetch("no/such", tmp_path / "copy", sha256=sha256(b"")),
        lambda: either.verify("no/such", bytes=0, sha256=sha256(b"")),
    ):
        with pytest.raises(BlobNotFound, match="no/such"):
            ask()
    assert list(tmp_path.glob("copy*")) == []


def test_other_bytes_than_were_written(either: Blobs, tmp_path: Path) -> None:
    either.put("jobs/a/1", b"right")
    for ask in (
        lambda: either.fetch("jobs/a/1", tmp_path / "copy", sha256=sha256(b"wrong")),
        lambda: either.verify("jobs/a/1", bytes=5, sha256=sha256(b"wrong")),
        lambda: either.verify("jobs/a/1", bytes=4, sha256=sha256(b"right")),
    ):
        with pytest.raises(BlobDamaged, match=r"jobs/a/1.*backup"):
            ask()
    assert list(tmp_path.glob("copy*")) == []


def test_two_prefixes_of_a_bucket_know_nothing_of_each_other(s3_endpoint: str, s3_bucket: str) -> None:
    one, other, whole = (bucket(s3_endpoint, s3_bucket, prefix) for prefix in ("one", "o", ""))
    one.put("jobs/a/1", b"x")
    assert keys(other) == []
    assert keys(whole) == ["one/jobs/a/1"]
    whole.delete_prefix("one")
    assert keys(one) == []


@pytest.mark.parametrize("profile", [None, "other"])
def test_the_keys_may_be_in_a_credentials_file(
    s3_endpoint: str, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str | None
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    if profile is not None:
        monkeypatch.setenv("AWS_PROFILE", profile)
    for content in ("secret", "[third]\naws_access_key_id = key\naws_secret_access_key = secret\n"):
        file.write_text(content)
        with pytest.raises(StorageUnavailable, match="no keys of the profile") as refused:
            Blobs(f"s3://{s3_bucket}")
        assert "secret" not in str(refused.value)
    file.write_text(f"[{profile or 'default'}]\naws_access_key_id = key\naws_secret_access_key = s%cret\n")
    Blobs(f"s3://{s3_bucket}").check()


def test_deleting_leaves_no_empty_folders(blobs: Blobs, folder: Path) -> None:
    for key in ("jobs/a/1", "jobs/a/deep/2", "jobs/ab/1"):
        blobs.put(key, b"xyz")
    blobs.delete_prefix("jobs/a")
    assert files(folder) == ["jobs", "jobs/ab", "jobs/ab/1"]
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "key", ["", "../x", "/etc/passwd", "a/../b", "a//b", "a/", "red fox", "a\0", "ü", "."]
)
def test_only_our_own_keys(either: Blobs, key: str) -> None:
    for ask in (either.get, either.delete_prefix, lambda key: either.put(key, b"")):
        with pytest.raises(ValueError, match="Not a blob key"):
            ask(key)


def test_readers_see_a_complete_blob_or_none(blobs: Blobs, folder: Path) -> None:
    """A large blob is overwritten while another thread reads it."""
    sizes = set()
    writing = threading.Event()
    contents = [b"a" * 3_000_000, b"b" * 3_000_000]
    blobs.put("m/weights", contents[0])

    def write() -> None:
        for number in range(20):
            blobs.put("m/weights", contents[number % 2])
        writing.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not writing.is_set():
        content = blobs.get("m/weights")
        sizes.add(len(content))
        assert content in contents
    thread.join()
    assert sizes == {3_000_000}
    assert files(folder) == ["m", "m/weights"]


def test_concurrent_deletes_of_one_blob(blobs: Blobs, folder: Path) -> None:
    for _ in range(4):
        for number in range(20):
            blobs.put(f"jobs/a/{number}", b"x")
        at_once(*[lambda: blobs.delete_prefix("jobs/a")] * 3)
        assert files(folder) == ["jobs"]


def test_a_written_file_is_synced_with_its_folders(
    blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced before it gets its name, and the folders afterwards."""
    synced: list[Path] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    blobs.put("jobs/a/1", b"x")
    file, *folders = synced
    assert (file.parent, file.suffix) == (folder / "jobs/a", ".part")
    assert folders == [folder / "jobs/a", folder / "jobs", folder]
    assert files(folder) == ["jobs", "jobs/a", "jobs/a/1"]


def test_many_files_sync_each_folder_once(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    blobs.put_all((f"jobs/a/{number}", b"x") for number in range(40))
    assert len(synced) == 40 + 3


def test_a_failure_among_many_blobs_is_raised_when_none_is_under_way(
    s3_endpoint: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = bucket(s3_endpoint, s3_bucket)
    real, under_way = obstore.put, set[str]()

    def put(store: Any, key: str, data: bytes) -> None:
        under_way.add(key)
        if key.endswith("/3"):
            under_way.discard(key)
            raise OSError("No space left on device")
        real(store, key, data)
        under_way.discard(key)

    monkeypatch.setattr(obstore, "put", put)
    with pytest.raises(StorageFull):
        blobs.put_all((f"jobs/a/{number}", b"x") for number in range(40))
    assert under_way == set()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for url in ((tmp_path / "file" / "blobs").as_uri(), "gopher://nowhere", "nonsense", "s3://"):
        with pytest.raises(StorageUnavailable, match="CLIPCITE_BLOB_URL") as refused:
            Blobs(url)
        assert refused.value.status == 503


def test_a_missing_bucket(s3_endpoint: str, tmp_path: Path) -> None:
    without = bucket(s3_endpoint, "nobody-made-it")
    for ask in (
        without.check,
        lambda: without.put("a", b""),
        lambda: without.get("a"),
        lambda: without.list(""),
    ):
        with pytest.raises(StorageUnavailable, match=r"NoSuchBucket.*AWS_ENDPOINT_URL") as refused:
            ask()
        assert "secret" not in refused.value.detail
