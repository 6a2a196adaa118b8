"""Workers, and misbehaving stand-ins for the trainer's program."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.settings import Settings
from core.store.db import migrate
from core.store.db.session import Database
from core.store.storage.blobs import Blobs
from worker.job_runner import JobRunner

MakeWorker = Callable[..., JobRunner]
StandIn = Callable[[str], None]
HEAD = """
import json, os, sys, time

def say(**message):
    if message["type"] == "done":
        message.setdefault("seconds", 1)
    print(json.dumps({"at": time.monotonic(), **message}), flush=True)

def job():
    "The folder, as the real one gets it."
    return sys.argv[1] if cold else json.loads(sys.stdin.readline())["folder"]

cold = len(sys.argv) > 1
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """Return a function that makes `python -m worker.trainer` run the passed Python."""
    # A replacement of `worker/trainer/__main__.py` in a folder that is searched first.
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def write(script: str) -> None:
        (tmp_path / "worker" / "trainer.py").write_text(HEAD + script)

    return write


@pytest.fixture
def make_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorker]:
    """Return a function that makes a worker with these settings. All workers share their storage."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # More threads only spin on work this small.
    made: list[JobRunner] = []

    def make(**given: Any) -> JobRunner:
        settings = Settings(data=tmp_path / "data", cache=tmp_path / "cache", device="cpu", **given)
        migrate.upgrade(settings.sqlalchemy_url())
        database, blobs = Database(settings.sqlalchemy_url()), Blobs(settings.blobs_url())
        made.append(JobRunner(settings, database, blobs, name=f"w{len(made)}"))
        return made[-1]

    yield make
    for worker in made:
        if worker.warm_trainer is not None:
            worker.warm_trainer.close()
        worker.database.close()
