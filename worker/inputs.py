"""Input files of a trainer: images, task and, for an evaluation, the published model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clipcite.types.images import Image
from core.clip.config import stored_settings
from core.clip.weights.manifest import MANIFEST, WEIGHTS
from core.settings import Settings
from core.store.db.tables import Model
from core.store.jobs import jobs, lifecycle
from core.store.storage.blobs import Blobs
from worker.lease import Lease
from worker.trainer.protocol import TASK, TASK_JSON, Task
from worker.trainer.supervisor import Stopped, TrainerFailed


def images_of(lease: Lease) -> list[Image]:
    """Return the images of the lease's job in the order of their positions."""
    with lease.database.read() as session:
        return [jobs.image_of(row) for row in jobs.images(session, lease.claim.job_id)]


def download_inputs(
    settings: Settings, lease: Lease, blobs: Blobs, stored: Sequence[Image], folder: Path
) -> None:
    """Write the trainer's input to `folder`.

    Args:
        stored: images of the job.

    Raises:
        Stopped: the attempt must stop.
        TrainerFailed: the model to evaluate was deleted.
        StorageUnavailable, BlobNotFound, BlobDamaged: a file can't be read.
    """
    claim, trained_seconds = lease.claim, None
    if claim.model_id is not None:
        with lease.database.read() as session:
            model = session.get(Model, claim.model_id)
            trained_seconds = lifecycle.training_seconds(session, claim.job_id)
    images = []
    for number, image in enumerate(stored):
        if lease.should_stop():
            raise Stopped
        file = f"{number:05d}"
        blobs.fetch(str(image.content), folder / file, sha256=image.sha256)
        images.append(replace(image, content=file))
    if claim.model_id is not None:
        if model is None:
            raise TrainerFailed(
                "model_deleted", "The model was deleted before its evaluation ended. Train it again."
            )
        blobs.fetch(model.weights_key, folder / WEIGHTS, sha256=model.sha256)
        blobs.fetch(model.manifest_key, folder / MANIFEST)
    task = Task(
        config=stored_settings(claim.config),
        images=images,
        cache=str(settings.cache.absolute()),
        device=settings.device,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        checkpoint_seconds=settings.checkpoint_seconds,
        serving_reserve_bytes=settings.serving_reserve_bytes,
        trained_seconds=trained_seconds,
        ids={"job_id": claim.job_id, "request_id": claim.request_id or ""},
        log=settings.log,
        log_level=settings.log_level,
    )
    (folder / TASK).write_bytes(TASK_JSON.dump_json(task))
