"""The thread for deletions and retention."""

import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.settings import Settings
from core.store.db.session import Database
from core.store.jobs.queue import make_celery
from core.store.storage.blobs import Blobs
from tests.core.store.samples import delete_job, stored_job
from worker.dispatcher.__main__ import dispatch
from worker.dispatcher.cleanup import Cleaner

GUARD_SECONDS = 600
"""Timeout (seconds). It only guards against hanging."""


def test_a_storage_that_hangs_in_a_deletion_holds_only_the_cleaners_thread(
    database: Database, empty_redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data=tmp_path, redis_url=SecretStr(empty_redis_url))
    blobs = Blobs((tmp_path / "blobs").as_uri())
    gone, other = stored_job(database, blobs), stored_job(database, blobs)
    delete_job(database, gone)  # The process died here.
    hanging, released = threading.Event(), threading.Event()
    delete = Blobs.delete_prefix

    def hang(blobs: Blobs, prefix: str) -> None:
        hanging.set()
        assert released.wait(GUARD_SECONDS)
        delete(blobs, prefix)

    monkeypatch.setattr(Blobs, "delete_prefix", hang)
    cleaner = Cleaner(settings, database, blobs, guard=nullcontext)
    cleaner.start()
    assert hanging.wait(GUARD_SECONDS)
    assert dispatch(settings, database, make_celery(settings)) == [other]
    released.set()
    cleaner.stop(GUARD_SECONDS)
    assert not cleaner._thread.is_alive()
    assert blobs.list(f"jobs/{gone}") == []
