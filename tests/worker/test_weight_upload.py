"""Upload of weights into a faulty storage."""

import hashlib
import os
from pathlib import Path

import pytest

from core.clip.weights.manifest import MANIFEST, WEIGHTS
from core.store.errors import StorageUnavailable
from core.store.storage.blobs import Blobs
from worker.publication import store_weights
from worker.trainer.supervisor import Stopped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create the files of a training that the storage receives."""
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(os.urandom(200_000))
    (folder / MANIFEST).write_bytes(b"{}")
    return folder


def never() -> bool:
    return False


def test_wrongly_stored_weights_are_stored_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two times, the disk reports success and stores other bytes."""
    blobs = Blobs((tmp_path / "blobs").as_uri())
    put, wrong = blobs.put, [b"", b"x" * 200_000]

    def lie(key: str, data: bytes | Path) -> None:
        put(key, wrong.pop() if wrong and key.endswith(WEIGHTS) else data)

    monkeypatch.setattr(blobs, "put", lie)
    store_weights(blobs, "models/m", folder, should_stop=never, pause_seconds=0.01)
    content = (folder / WEIGHTS).read_bytes()
    blobs.verify(f"models/m/{WEIGHTS}", bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert wrong == []


def test_waiting_for_the_storage_has_a_limit(folder: Path, tmp_path: Path) -> None:
    blobs = Blobs((tmp_path / "blobs").as_uri())
    (tmp_path / "blobs").rmdir()
    (tmp_path / "blobs").write_bytes(b"in the way")
    with pytest.raises(StorageUnavailable):
        store_weights(blobs, "models/m", folder, should_stop=never, patience_seconds=0.2, pause_seconds=0.05)
    asked = 0

    def after_three_calls() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    with pytest.raises(Stopped):
        store_weights(blobs, "models/m", folder, should_stop=after_three_calls)
