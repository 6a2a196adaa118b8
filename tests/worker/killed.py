"""Kill a process at every step of its work on the storage: `python -m tests.worker.killed SCENARIO FOLDER`.

One process after another does the same work and is killed one step later than its predecessor, until one
completes. Then the files of all jobs, models and piles must be intact, and a day later no other one may be
left. The counts are printed as JSON. The storage starts threads, which no fork may inherit, so each use of it
is in a child.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy import event, select, update

import worker.job_runner
from admin import snapshots
from api.deps import Services
from api.jobs import routes as job_routes
from api.jobs.submission import JobSubmission
from api.models import routes as model_routes
from api.models.imports import ModelImport
from api.piles import images as pile_images
from api.piles import routes as pile_routes
from api.piles.images import Sent
from clipcite.types.images import Image
from clipcite.types.piles import AnswerIn
from core.clip.config import resolve_config
from core.clip.training.checkpoint_files import checkpoint_name
from core.clip.weights.manifest import MANIFEST, WEIGHTS, Manifest, file_sha256, read_manifest
from core.settings import Settings
from core.store import piles
from core.store.accounts import owners
from core.store.db import migrate
from core.store.db.ids import new_id
from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion, Job, JobEvent, JobImage, Model, PileFeatures, PileImage
from core.store.jobs import jobs, lifecycle
from core.store.jobs.jobs import checkpoints_of
from core.store.jobs.lifecycle import CHECKPOINT
from core.store.storage import atomic_write, deletions, installation
from core.store.storage.blobs import Blobs
from tests.core.store.samples import OWNER, claimed, delete_job, new_job, sha256, stored_job, stored_model
from tests.killed import Steps, in_child, killed_at_each_step
from worker.checkpoints import CheckpointUploader
from worker.dispatcher.cleanup import finish_deletions
from worker.job_runner import JobRunner
from worker.trainer.protocol import REPORT, Done, Message, Trained

CONFIG = resolve_config(backbone="starter")
SERVING = cast(Any, SimpleNamespace(previews=SimpleNamespace(forget=id), forget=id, prepare_preview=id))


def begin(steps: Steps, database: Database | None) -> None:
    """Count the steps from here on: writes, renames and deletions of files, and commits."""

    def around(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        @wraps(real)
        def stepped(*given: Any, **options: Any) -> Any:
            steps()
            result = real(*given, **options)
            steps()
            return result

        setattr(owner, name, stepped)

    def copy_half(source: Any, to: Any, length: int) -> None:
        content = source.read()
        to.write(content[: len(content) // 2])
        to.flush()
        steps()
        to.write(content[len(content) // 2 :])

    names = ("put", "put_all", "verify", "delete", "delete_prefix")
    for owner, name in ((os, "fsync"), (Path, "replace"), *((Blobs, name) for name in names)):
        around(owner, name)
    atomic_write.shutil.copyfileobj = copy_half
    if database is not None:
        event.listen(database.engine, "commit", steps)


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
        config=CONFIG.model_dump(),
        delta_format="full",
    )
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest)))
    (folder / REPORT).write_text("{}")


def publish(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: Steps) -> None:
    """Publish a model and end its evaluation."""
    job_id = new_job(database, config=CONFIG.model_dump(), images=[])

    def run_trainer(folder: Path, *, on_message: Callable[[Message], None], **_: object) -> Done:
        shutil.copytree(ready, folder, dirs_exist_ok=True)
        begin(steps, database)
        on_message(Trained(metrics={"verdict": "evaluating"}, seconds=1))
        return Done(metrics={"verdict": "better"}, seconds=1)

    worker.job_runner.run_trainer = run_trainer
    JobRunner(settings, database, blobs, name="w").run(job_id)


def shot(content: bytes, class_name: str = "a") -> Image:
    """Return a checked image of a request."""
    return Image(content, class_name, file_name="a.jpg", sha256=sha256(content), bytes=len(content))


def upload(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: Steps) -> None:
    """Store the images of a request and create its job."""
    shots = [shot(b"image"), shot(b"image")]
    counts = [{"name": "a", "images": 2, "test_images": 0}]
    validated = cast(Any, SimpleNamespace(images=shots, classes=counts))
    checked = cast(Any, SimpleNamespace(warnings=[], model_dump_json=lambda: "{}"))
    begin(steps, database)
    submission = JobSubmission(settings, database, blobs, SERVING, cast(Any, None))
    submission._store(validated, checked, CONFIG, None, owner=OWNER, name=None, webhook=None)


def import_model(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: Steps) -> None:
    """Store an imported model."""
    manifest = read_manifest((ready / MANIFEST).read_bytes())
    begin(steps, database)
    ModelImport(settings, database, blobs, SERVING, cast(Any, None))._publish(ready, None, manifest, OWNER)


def checkpoint(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: Steps) -> None:
    """Store two checkpoints, then end the job."""
    claim = claimed(database, new_job(database, images=[]), lease_seconds=3600)
    folder = ready.parent / f"checkpoints-{claim.job_id}"

    def record(stored: str, epoch: int) -> bool:
        with database.write() as session:
            return lifecycle.record_checkpoint(session, claim, stored, epoch)

    uploader = CheckpointUploader(database, blobs, claim.job_id, folder, record)
    uploader.fetch()
    begin(steps, database)
    for epoch in (1, 2):
        (folder / checkpoint_name(epoch, sha256(b"state"))).write_bytes(b"state")
        uploader._store_newest()
    with database.write() as session:
        lifecycle.finish_failed(session, claim, code="x", detail="x")
    deletions.finish(database, blobs, checkpoints_of(claim.job_id))


def pile(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: Steps) -> None:
    """Add images to a pile twice, answer, and delete another pile."""
    services = Services(settings, database, blobs, SERVING, cast(Any, None))
    made = [new_pile(database) for _ in range(2)]
    add_to_pile(services, made[0], b"gone")
    begin(steps, database)
    for content in (b"one", b"two"):
        add_to_pile(services, made[1], content)
    with database.write() as session:
        row = piles.get(session, made[1], owner=OWNER, lock=True)
        piles.add_answers(session, row, [AnswerIn(positions=[0], said="class", class_name="a", how="moved")])
    pile_routes.delete_pile.__wrapped__(services, OWNER, made[0])


def new_pile(database: Database) -> str:
    with database.write() as session:
        owners.ensure(session, OWNER)
        return piles.create(
            session, owner=OWNER, name="x", model="stock", class_names=None, keeps_images=True
        ).id


def add_to_pile(services: Services, pile_id: str, content: bytes) -> None:
    """Store an image and its features."""
    with services.database.read() as session:
        row = piles.get(session, pile_id, owner=OWNER)
    sent = Sent("a.jpg", sha256(content), content, np.ones(4, np.float16))
    pile_images._store(services, row, [sent], (), "key", OWNER)


def delete(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: Steps) -> None:
    """Delete a job and a model."""
    stored_job(database, blobs)
    job_id, model_id = stored_job(database, blobs), stored_model(database, blobs)
    begin(steps, database)
    job_routes.delete_job.__wrapped__(database, blobs, SERVING, OWNER, job_id)
    model_routes.delete_model.__wrapped__(database, blobs, SERVING, OWNER, model_id)


def clean(settings: Settings, database: Database, blobs: Blobs, ready: Path, steps: Steps) -> None:
    """Finish the deletion of a job, and of an upload that ended a day ago."""
    stored_model(database, blobs)
    delete_job(database, stored_job(database, blobs))
    lost = jobs.blobs_of(new_id("job"))
    with database.write() as session:
        session.add(Deletion(prefix=lost, due_at=database_now(session)))
    blobs.put(f"{lost}/0", b"x")
    begin(steps, database)
    finish_deletions(database, blobs)


SCENARIOS = {
    "publish": publish,
    "upload": upload,
    "import": import_model,
    "checkpoint": checkpoint,
    "pile": pile,
    "delete": delete,
    "clean": clean,
}


def main(scenario: str, folder: Path) -> None:
    settings = Settings(data=folder / "data", warm_trainer=False, lease_seconds=3600)
    pytest.MonkeyPatch().setattr(Settings, "heartbeat_seconds", 3600)  # no step of the counted ones
    url = settings.sqlalchemy_url()
    migrate.upgrade(url)
    ready = folder / "ready"
    ready.mkdir()
    trained(ready)

    def bind() -> None:
        installation.check(Database(url), Blobs.of(settings), bind=True)

    def work(steps: Steps) -> None:
        SCENARIOS[scenario](settings, Database(url), Blobs.of(settings), ready, steps)
        steps()  # after the last commit

    assert in_child(bind) == 0
    if scenario == "restore":
        json.dump(restored(settings, folder), sys.stdout)
        return
    kills = killed_at_each_step(work)
    database, blobs = Database(url), Blobs.of(settings)
    stored = {blob.key for blob in blobs.list("")}
    finish_deletions(database, blobs)
    needed = living(database, blobs)
    with database.write() as session:  # a day later
        at = database_now(session)
        session.execute(update(Deletion).where(Deletion.due_at < at + timedelta(days=1)).values(due_at=at))
    finish_deletions(database, blobs)
    assert living(database, blobs) == needed
    with database.read() as session:
        tables = (Job, Model, PileImage)
        rows = {table.__tablename__: len(session.scalars(select(table)).all()) for table in tables}
        left = session.scalars(select(Deletion.prefix)).all()
    extra = {blob.key for blob in blobs.list("")} - needed - {installation.KEY}
    assert snapshots.verify_installation(database, blobs).problems == []
    json.dump(
        {"kills": kills, **rows, "stored": len(stored), "extra": sorted(extra), "left": list(left)},
        sys.stdout,
    )


def living(database: Database, blobs: Blobs) -> set[str]:
    """Return the files of all jobs, models and piles, and check that their rows agree."""
    with database.read() as session:
        models = list(session.scalars(select(Model)))
        rows = {job.id: job for job in session.scalars(select(Job))}
        images = {
            key
            for keys in (JobImage.blob_key, PileImage.blob_key, PileFeatures.blob_key)
            for key in session.scalars(select(keys))
            if key is not None
        }
        recorded = set(session.scalars(select(JobEvent.job_id).where(JobEvent.type == CHECKPOINT)))
        pending = set(session.scalars(select(Deletion.prefix)))
    needed = images | {key for model in models for key in (model.weights_key, model.manifest_key)}
    for model in models:
        if model.job_id is not None and model.job_id in rows:
            assert rows[model.job_id].model_id == model.id
            assert rows[model.job_id].metrics == model.metrics
    for job in rows.values():
        needed |= {key for key in (job.report_key,) if key and blobs.exists(key)}
        assert job.report_key is None or job.report_key in needed
        stored = {blob.key for blob in blobs.list(checkpoints_of(job.id))}
        if job.status == "running" and job.id in recorded:
            assert stored
            needed |= {key for key in stored if key.rpartition("/")[0] not in pending}
    assert needed <= {blob.key for blob in blobs.list("")}
    return needed


def restored(settings: Settings, folder: Path) -> dict[str, Any]:
    """Restore a backup, killed at each step and repeated."""
    url = settings.sqlalchemy_url()
    empty = shutil.copy(settings.data / "clipcite.db", folder / "empty.db")
    target = folder / "target"

    def back_up() -> None:
        database, blobs = Database(url), Blobs.of(settings)
        stored_model(database, blobs)
        snapshots.create(url, database, blobs, snapshots.Backup(folder / "backup", folder / "scratch"))

    def restore() -> None:
        to, blobs = f"sqlite:///{target}/clipcite.db", Blobs((target / "blobs").as_uri())
        try:
            snapshots.restore(to, blobs, snapshots.Backup(folder / "backup", folder / "scratch"))
        except snapshots.BackupError as error:
            if "already has" not in error.detail:  # as after a kill that follows the commit
                raise

    def begun(steps: Steps) -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        shutil.copy(empty, target / "clipcite.db")
        begin(steps, None)
        restore()

    def repeat() -> None:
        restore()
        database, blobs = Database(f"sqlite:///{target}/clipcite.db"), Blobs((target / "blobs").as_uri())
        installation.check(database, blobs, bind=True)
        finish_deletions(database, blobs)
        assert snapshots.verify_installation(database, blobs).problems == []
        assert len(living(database, blobs)) == 4

    def repeated() -> None:
        assert in_child(repeat) == 0

    assert in_child(back_up) == 0
    return {"kills": killed_at_each_step(begun, then=repeated)}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
