"""Kill a publication and its evaluation at every step: `python -m tests.worker.killed_publisher FOLDER`.

One process after another publishes a model and is killed one step later than its predecessor, until one
completes. The remaining state is printed as JSON.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors.numpy import save_file
from sqlalchemy import event, select

import worker.job_runner
from core.clip.config import resolve_config
from core.clip.weights.manifest import MANIFEST, WEIGHTS, Manifest, file_sha256
from core.settings import Settings
from core.store.db import migrate
from core.store.db.session import Database
from core.store.db.tables import Job, Model
from core.store.storage import atomic_write, installation
from core.store.storage.blobs import Blobs
from tests.core.store.samples import new_job
from worker.dispatcher.garbage import collect_garbage
from worker.job_runner import JobRunner
from worker.trainer.protocol import REPORT


class Steps:
    """Callable that kills this process before its `last` step."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        @wraps(real)
        def stepped(*given: Any, **options: Any) -> Any:
            self()
            result = real(*given, **options)
            self()
            return result

        setattr(owner, name, stepped)


def trained(folder: Path) -> None:
    """Write the files of a completed training."""
    save_file({"a": np.random.default_rng(0).normal(size=50_000).astype("float32")}, folder / WEIGHTS)
    manifest = Manifest(
        sha256=file_sha256(folder / WEIGHTS),
        bytes=(folder / WEIGHTS).stat().st_size,
        backbone="starter",
        backbone_sha256="0" * 64,
        image_size=160,
        class_names=("a", "b"),
        config={},
        delta_format="full",
    )
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest)))
    (folder / REPORT).write_text("{}")


def publish(settings: Settings, ready: Path, steps: Steps) -> NoReturn:
    database = Database(settings.sqlalchemy_url())
    blobs = Blobs.of(settings)
    config = resolve_config(backbone="starter").to_dict()
    job_id = new_job(database, config=config, images=[])

    def copy_half(source: Any, to: Any, length: int) -> None:
        content = source.read()
        to.write(content[: len(content) // 2])
        to.flush()
        steps()
        to.write(content[len(content) // 2 :])

    def run_trainer(
        folder: Path, *, on_message: Callable[[dict[str, Any]], None], **_: object
    ) -> dict[str, Any]:
        shutil.copytree(ready, folder, dirs_exist_ok=True)
        for owner, name in ((os, "fsync"), (Path, "replace"), (blobs, "put"), (blobs, "verify")):
            steps.around(owner, name)
        atomic_write.shutil.copyfileobj = copy_half
        event.listen(database.engine, "commit", steps)
        on_message({"type": "trained", "metrics": {"verdict": "evaluating"}, "seconds": 1.0})
        return {"metrics": {"verdict": "better"}}

    worker.job_runner.run_trainer = run_trainer
    JobRunner(settings, database, blobs, name="w").run(job_id)
    steps()  # After the commit.
    os._exit(0)


def main(folder: Path) -> None:
    settings = Settings(data=folder / "data", warm_trainer=False, heartbeat_seconds=3600, lease_seconds=3600)
    migrate.upgrade(settings.sqlalchemy_url())
    child = os.fork()  # The storage starts threads, which no later fork may inherit.
    if child == 0:
        installation.write_if_empty(Database(settings.sqlalchemy_url()), Blobs.of(settings))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    ready = folder / "ready"
    ready.mkdir()
    trained(ready)
    kills = 0
    while True:
        child = os.fork()  # This process still has no threads.
        if child == 0:
            publish(settings, ready, Steps(kills))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != -signal.SIGKILL:
            break
        kills += 1

    database, blobs = Database(settings.sqlalchemy_url()), Blobs.of(settings)
    with database.read() as session:
        models = list(session.scalars(select(Model)))
        jobs = {job.id: job for job in session.scalars(select(Job))}
    for model in models:
        job = jobs[str(model.job_id)]
        blobs.verify(model.weights_key, bytes=model.bytes, sha256=model.sha256)
        assert blobs.get(model.manifest_key) == (ready / MANIFEST).read_bytes()
        assert job.model_id == model.id
        assert (job.status, job.metrics) in [
            ("running", {"verdict": "evaluating"}),
            ("succeeded", {"verdict": "better"}),
        ]
        assert model.metrics == job.metrics
        assert job.report_key is None or blobs.get(job.report_key) == b"{}"
    stored = {blob.key.split("/")[1] for blob in blobs.list("models")}
    swept = collect_garbage(database, blobs, grace=timedelta(0), confirmed=True).deleted
    json.dump(
        {
            "kills": kills,
            "exit": status,
            "published": len(models),
            "stored": len(stored),
            "swept": len(swept),
            "left": sorted(path.name for path in (folder / "data" / "blobs" / "models").iterdir()),
            "models": sorted(model.id for model in models),
            "with_model": sum(job.model_id is not None for job in jobs.values()),
            "succeeded": sum(job.status == "succeeded" for job in jobs.values()),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
