"""A bucket over a faulty connection: retries and refusals, and never wrong bytes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.store.errors import BlobDamaged, StorageFull, StorageUnavailable
from core.store.storage import bucket as bucket_module
from core.store.storage.blobs import Blobs
from tests.core.store.samples import bucket, keys, sha256
from tests.faulty import Faults, faulty

LARGE = os.urandom(6_000_000)  # Two parts.


@pytest.fixture
def faults(s3_endpoint: str) -> Iterator[Faults]:
    with faulty(s3_endpoint) as faults:
        yield faults


@pytest.fixture
def blobs(faults: Faults, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """Return a client with shorter timeouts than a service's."""
    monkeypatch.setattr(bucket_module, "RETRY_SECONDS", 2)
    monkeypatch.setattr(bucket_module, "SILENCE_SECONDS", 0.7)
    return bucket(faults.url, s3_bucket)


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "hang"])
def test_writing_is_retried(blobs: Blobs, faults: Faults, tmp_path: Path, fault: str) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    faults.expect("PUT", fault, "503")
    blobs.put("jobs/a/1", b"small")
    faults.expect("PUT", "none", fault)
    faults.expect("POST", "503")
    blobs.put("models/m/weights", tmp_path / "large")
    assert faults.count("PUT", fault) >= 2
    assert blobs.get("jobs/a/1") == b"small"
    blobs.verify("models/m/weights", bytes=len(LARGE), sha256=sha256(LARGE))
    assert keys(blobs) == ["jobs/a/1", "models/m/weights"]


@pytest.mark.parametrize("fault", ["503", "reset", "slow", "hang", "cut"])
def test_reading_is_retried(blobs: Blobs, faults: Faults, tmp_path: Path, fault: str) -> None:
    blobs.put("large", LARGE)
    faults.expect("GET", fault, "503", fault)
    try:
        assert blobs.get("large") == LARGE
        blobs.fetch("large", tmp_path / "copy", sha256=sha256(LARGE))
        assert (tmp_path / "copy").read_bytes() == LARGE
    except StorageUnavailable:
        # An interrupted answer may be refused too; it is never taken as complete.
        assert fault == "cut"
        assert list(tmp_path.glob("copy*")) == []


def test_a_truncated_answer_is_never_taken_as_complete(blobs: Blobs, faults: Faults, tmp_path: Path) -> None:
    blobs.put("large", LARGE)
    faults.expect("GET", "short", "short")
    with pytest.raises(BlobDamaged):
        blobs.verify("large", bytes=len(LARGE), sha256=sha256(LARGE))
    with pytest.raises(BlobDamaged):
        blobs.fetch("large", tmp_path / "copy", sha256=sha256(LARGE))
    assert list(tmp_path.glob("copy*")) == []
    blobs.fetch("large", tmp_path / "copy", sha256=sha256(LARGE))


def test_deleting_is_retried(blobs: Blobs, faults: Faults) -> None:
    for number in range(3):
        blobs.put(f"jobs/a/{number}", b"x")
    faults.expect("POST", "503", "lost")
    faults.expect("GET", "503", "reset")
    blobs.delete_prefix("jobs/a")
    assert keys(blobs) == []


def test_retries_of_an_absent_server_end(blobs: Blobs, faults: Faults) -> None:
    faults.expect("PUT", *["503"] * 100)
    with pytest.raises(StorageUnavailable, match="503") as refused:
        blobs.put("jobs/a/1", b"x")
    assert refused.value.status == 503
    assert 3 <= faults.count("PUT", "503") <= 20


@pytest.mark.slow
def test_a_server_that_restarts_is_waited_for(
    blobs: Blobs, faults: Faults, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of retries does not end them before their time is over."""
    monkeypatch.setattr(bucket_module, "RETRY_SECONDS", 60)
    faults.expect("PUT", *["reset"] * 12)
    bucket(faults.url, s3_bucket).put("jobs/a/1", b"x")
    assert faults.count("PUT", "reset") == 12
    assert keys(blobs) == ["jobs/a/1"]


def test_a_full_server_is_reported_as_full(blobs: Blobs, faults: Faults) -> None:
    faults.expect("PUT", *["507"] * 100)
    with pytest.raises(StorageFull, match="Free some space"):
        blobs.put("jobs/a/1", b"x")
