"""Jobs in the queue of a worker, with real images."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from clipcite.types.images import Image
from core.clip.config import resolve_config
from tests.core.clip.tiny import make_tiny_backbone
from tests.core.store.samples import new_job
from worker.job_runner import JobRunner


def queue_job(worker: JobRunner, folder: Path, count: int = 4) -> str:
    """Queue a job with this number of images of two classes, on a tiny model. Each is a photo of its own."""
    contents = []
    for i in range(count):
        image, colour = io.BytesIO(), (40, 200, 40) if i % 2 else (200, 40, 40)
        noise = np.random.default_rng(i).integers(-40, 56, (40, 40, 3))
        Pillow.fromarray((np.array(colour) + noise).astype(np.uint8)).save(image, "PNG")
        contents.append(image.getvalue())
    return queue_images(worker, folder, contents)


def queue_images(worker: JobRunner, folder: Path, contents: Sequence[bytes]) -> str:
    """Queue a job with these files, alternating between two classes."""
    images = []
    for i, content in enumerate(contents):
        worker.blobs.put(f"jobs/x/{i}", content)
        sha256 = hashlib.sha256(content).hexdigest()
        images.append(
            Image(
                f"jobs/x/{i}",
                ("red", "green")[i % 2],
                file_name=f"{i}.png",
                sha256=sha256,
                bytes=len(content),
            )
        )
    config = resolve_config(backbone=make_tiny_backbone(folder / "tiny"), epochs=1)
    return new_job(worker.database, config=config.model_dump(), images=images)
