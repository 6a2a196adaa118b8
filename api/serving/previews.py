"""Instant previews: prototype classifiers from a job's images, until the job has a model."""

import contextvars
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from api.serving.decoding import fitted
from api.serving.engine import Engine
from api.serving.pool.cache import StillLoading
from api.serving.pool.served_model import ServedModel
from api.serving.types import WeightsKey
from core.clip.data.decoders import Decoders
from core.clip.data.header import ImageLimits
from core.clip.data.splits import in_turns
from core.clip.errors import BadImage
from core.clip.inference.prototypes import PrototypeClassifier
from core.errors import ExpectedError
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import Job, JobImage
from core.store.errors import ShotsGone
from core.store.jobs import jobs
from core.store.registry.references import JOB_PREFIX
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
MAX_SHOTS = 512
"""Maximum number of images per preview. More images do not improve the prototypes."""
BUDGET_BYTES = 64_000_000
THREADS = 4
BATCH_SIZE = 16
"""Number of images that are decoded and encoded at a time."""
TURN_SECONDS = 1.0
"""Time after which an incomplete preview can be used, if every class has an image."""


def is_job(reference: str) -> bool:
    """Return whether a reference is the id of a job."""
    return reference.startswith(JOB_PREFIX)


@dataclass(frozen=True)
class JobPreview:
    """The fields of a job that its preview needs. They have the names of a model's columns."""

    id: str
    backbone: str
    image_size: int | None
    classes: list[str]
    """Class names in the order of the future model."""
    templates: list[str]
    prompts: dict[str, list[str]]

    @classmethod
    def of(cls, job: Job) -> "JobPreview":
        trained = [count["name"] for count in job.classes if count["images"]]
        config = job.config
        return cls(
            job.id, config["backbone"], config["image_size"], trained, config["templates"], config["prompts"]
        )


class PartialPrototypes:
    """A preview that can be used while more images are being encoded."""

    def __init__(self) -> None:
        self.shots: list[JobImage] = []
        self.labels = torch.empty(0)
        self.parts: list[Tensor] = []
        """Features [n, D] of the images encoded so far."""
        self.usable = False
        self.queued = False
        """Whether a turn is coming or in progress."""
        self.error: Exception | None = None
        """Reason why the preview can never be used."""

    @property
    def encoded(self) -> int:
        """Number of images encoded so far."""
        return sum(map(len, self.parts))

    @property
    def bytes(self) -> int:
        """Size with all images."""
        return len(self.shots) * self.parts[0][0].nbytes if self.parts else 0

    @property
    def has_every_class(self) -> bool:
        """True if every class has an encoded image."""
        return len(self.labels[: self.encoded].unique()) == len(self.labels.unique())


@dataclass(frozen=True)
class PreviewState:
    """State of a preview at one moment."""

    preview: PrototypeClassifier
    missing: int
    """Number of images that are not encoded yet."""


class Previews:
    """The most recent instant previews. They are built from stored images, on submission or on first use.

    Previews take turns. A preview with many images can be used before all of them are encoded. Each API
    process builds its own previews, in memory only.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        engine: Engine,
        decoders: Decoders,
    ) -> None:
        self._decoders = decoders
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._database = database
        self._blobs = blobs
        self._engine = engine
        self._kept: OrderedDict[str, PartialPrototypes] = OrderedDict()
        """Previews by job id, the least recently used first."""
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="preview")
        self._closed = False

    def prepare(self, job: JobPreview) -> PartialPrototypes:
        """Start building a preview without waiting. The first request for it gets any error."""
        with self._changed:
            prototypes = self._kept.get(job.id)
            if prototypes is None:
                prototypes = self._kept[job.id] = PartialPrototypes()
                self._submit(job, prototypes)
            elif not prototypes.queued and prototypes.encoded < len(prototypes.shots):  # its last turn failed
                self._submit(job, prototypes)
            self._kept.move_to_end(job.id)
            while sum(kept.bytes for kept in self._kept.values()) > BUDGET_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)
            return prototypes

    def get(self, job: JobPreview) -> PreviewState:
        """Return a preview.

        Raises:
            StillLoading: the preview can't be used in time. Building continues.
            ShotsGone: the images or the job were deleted.
            BackboneUnavailable, StorageUnavailable, BlobNotFound.
        """
        prototypes = self.prepare(job)
        with self._changed:
            self._changed.wait_for(
                lambda: prototypes.usable or prototypes.error is not None or self._closed,
                self._engine.wait_seconds,
            )
        if prototypes.error is not None:
            raise prototypes.error
        if not prototypes.usable:
            raise StillLoading("The preview")
        features = torch.cat(list(prototypes.parts))
        classifier = PrototypeClassifier(features, prototypes.labels[: len(features)])
        return PreviewState(classifier, len(prototypes.shots) - len(features))

    def forget(self, job_id: str) -> None:
        """Drop the preview of a deleted job."""
        with self._changed:
            self._kept.pop(job_id, None)

    def close(self) -> None:
        """Stop the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _submit(self, job: JobPreview, prototypes: PartialPrototypes) -> None:
        if not self._closed:
            prototypes.queued = True
            # With the context of the request, so that its owner's turns are used.
            self._threads.submit(contextvars.copy_context().run, self._build, job, prototypes)

    def _build(self, job: JobPreview, prototypes: PartialPrototypes) -> None:
        """Encode images for one turn, then let other previews have theirs."""
        try:
            if not prototypes.shots:
                self._choose_shots(job, prototypes)
            self._extend(job, prototypes, until=time.monotonic() + TURN_SECONDS)
        except Exception as error:
            # A ExpectedError: the job was deleted, or the service is closing.
            log = logger.info if isinstance(error, ExpectedError) else logger.exception
            log("The preview of %s stays at %d images: %s", job.id, prototypes.encoded, error)
            with self._changed:
                prototypes.queued = False
                if not prototypes.usable:
                    prototypes.error = error
                    if self._kept.get(job.id) is prototypes:  # so that the next request tries again
                        del self._kept[job.id]
                self._changed.notify_all()
            return
        with self._changed:
            prototypes.queued = False
            prototypes.usable = prototypes.has_every_class
            self._changed.notify_all()
            if prototypes.encoded < len(prototypes.shots):
                self._submit(job, prototypes)

    def _choose_shots(self, job: JobPreview, prototypes: PartialPrototypes) -> None:
        with self._database.read() as session:
            shots = chosen_shots(jobs.images(session, job.id))
        if not shots:
            raise ShotsGone(job.id)
        index = {name: i for i, name in enumerate(job.classes)}
        prototypes.labels = torch.tensor([index[shot.class_name] for shot in shots])
        prototypes.shots = shots

    def _extend(self, job: JobPreview, prototypes: PartialPrototypes, until: float) -> None:
        key = WeightsKey(job.backbone, job.image_size)
        with self._engine.pool.acquire(key, 0, wait_seconds=None) as stock:
            while prototypes.encoded < len(prototypes.shots) and not self._closed:
                batch = prototypes.shots[prototypes.encoded : prototypes.encoded + BATCH_SIZE]
                prototypes.parts.append(self._features(stock, batch))
                if time.monotonic() > until:
                    return

    def _features(self, stock: ServedModel, shots: Sequence[JobImage]) -> Tensor:
        """Return the features [n, D] of a batch. It is small, so that other requests run in between."""
        files = (self._blobs.get(shot.blob_key) for shot in shots)
        pixels = []
        size = stock.backbone.image_size
        for image in fitted(files, stock.preprocess, size, self._limits, self._decoders):
            if isinstance(image, BadImage):
                raise image
            pixels.append(image)
        return self._engine.encode_images(stock, torch.stack(pixels), wait_seconds=None)


def chosen_shots(images: Sequence[JobImage], max_shots: int = MAX_SHOTS) -> list[JobImage]:
    """Return training images in the order of the upload, spread evenly over the classes.

    There are at most `max_shots` images, but at least one per class.
    """
    trained = [image for image in images if image.split == "train"]
    names = [image.class_name for image in trained]
    return [trained[position] for position in in_turns(names)[: max(max_shots, len(set(names)))]]
