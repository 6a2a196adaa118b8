"""Blobs in a folder."""

import os
import threading
from pathlib import Path

import pytest

from core.store.blobs import Blobs
from core.store.errors import BlobNotFound, StorageUnavailable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a b%20ü" / "blobs"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder.as_uri())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_bytes_and_files_there_and_back(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    large = os.urandom(12_000_000)  # more than one part
    (tmp_path / "large").write_bytes(large)
    blobs.put("jobs/a/1", b"small")
    blobs.put("models/m/weights.safetensors", tmp_path / "large")
    blobs.put("empty", b"")

    assert blobs.get("jobs/a/1") == b"small"
    assert blobs.get("empty") == b""
    blobs.fetch("models/m/weights.safetensors", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == large
    assert folder.stat().st_mode & 0o077 == 0


def test_listing_and_deleting_a_folder_leaves_no_empty_ones(blobs: Blobs, folder: Path) -> None:
    for key in ("jobs/a/1", "jobs/a/deep/2", "jobs/ab/1"):
        blobs.put(key, b"xyz")
    assert sorted((b.key, b.bytes) for b in blobs.list("jobs/a")) == [("jobs/a/1", 3), ("jobs/a/deep/2", 3)]
    assert len(blobs.list("")) == 3
    blobs.delete_prefix("jobs/a")
    blobs.delete_prefix("jobs/a")  # gone already
    assert files(folder) == ["jobs", "jobs/ab", "jobs/ab/1"]


def test_a_missing_blob_is_named(blobs: Blobs, tmp_path: Path) -> None:
    for ask in (lambda: blobs.get("no/such"), lambda: blobs.fetch("no/such", tmp_path / "copy")):
        with pytest.raises(BlobNotFound, match="no/such"):
            ask()
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "key", ["", "../x", "/etc/passwd", "a/../b", "a//b", "a/", "red fox", "a\0", "ü", "."]
)
def test_only_our_own_keys(blobs: Blobs, key: str) -> None:
    for ask in (blobs.get, blobs.delete_prefix, lambda key: blobs.put(key, b"")):
        with pytest.raises(ValueError, match="Not a key"):
            ask(key)


def test_readers_see_all_of_it_or_nothing(blobs: Blobs, folder: Path) -> None:
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


def test_two_that_delete_the_same(blobs: Blobs, folder: Path) -> None:
    for _ in range(10):
        for number in range(20):
            blobs.put(f"jobs/a/{number}", b"x")
        threads = [threading.Thread(target=blobs.delete_prefix, args=["jobs/a"]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert files(folder) == ["jobs"]


def test_what_is_written_is_synced_with_its_folders(
    blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    blobs.put("jobs/a/1", b"x")
    assert synced == [folder / "jobs/a/1", folder / "jobs/a", folder / "jobs", folder]


def test_check(blobs: Blobs, folder: Path) -> None:
    blobs.check()
    assert files(folder) == []


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for url in ((tmp_path / "file" / "blobs").as_uri(), "gopher://nowhere", "nonsense"):
        with pytest.raises(StorageUnavailable, match="CLIPCITE_BLOB_URL") as refused:
            Blobs(url)
        assert refused.value.status == 503


def test_check_sees_a_folder_that_went_away(blobs: Blobs, folder: Path) -> None:
    folder.rmdir()
    folder.write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        blobs.check()
