"""Instant preview: a prototype classifier from a job's images, for jobs without a model."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from core.clip.data.decoders import Decoders
from core.clip.data.header import ImageLimits
from core.clip.errors import BadImage
from core.clip.inference.prototypes import PrototypeClassifier
from core.errors import ClipCiteError
from core.serving.decoding import fitted
from core.serving.engine import Engine
from core.serving.pool.cache import StillLoading, WarmCache
from core.serving.pool.cache_stats import CacheStats
from core.serving.pool.served_model import ServedModel
from core.serving.types import WeightsKey
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import Job, JobImage
from core.store.errors import ShotsGone
from core.store.jobs import jobs
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
MAX_SHOTS = 512
"""Maximum number of images per preview: more do not improve the prototypes."""
BUDGET_BYTES = 64_000_000
PREVIEW = "preview"
BATCH_SIZE = 16
"""Images that are decoded and encoded at a time."""
MAX_FIRST_SECONDS = 1.0
"""Time after which a preview is usable with part of its images, if every class has one."""
POLL_SECONDS = 0.1


def is_job(reference: str) -> bool:
    """Return whether a reference is the id of a job."""
    return reference.startswith("job_")


@dataclass(frozen=True)
class JobPreview:
    """The fields of a job that its preview needs, named like those of a model's row."""

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
    """A preview that is usable while further images are still being encoded."""

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels
        self._parts: list[Tensor] = []
        self.bytes = 0
        """Size with all images."""
        self.error: Exception | None = None
        """Why it will never be usable."""

    @property
    def images(self) -> int:
        """Number of images of the complete preview."""
        return len(self._labels)

    @property
    def encoded(self) -> int:
        """Number of images encoded so far."""
        return sum(map(len, self._parts))

    @property
    def has_every_class(self) -> bool:
        """Every class has an encoded image."""
        return len(self._labels[: self.encoded].unique()) == len(self._labels.unique())

    def add(self, features: Tensor) -> None:
        """Add the features [n, D] of the next images."""
        self._parts.append(features)
        self.bytes = self.images * features[0].nbytes

    def classifier(self) -> PrototypeClassifier:
        """Return the classifier from the images encoded so far."""
        features = torch.cat(list(self._parts))
        return PrototypeClassifier(features, self._labels[: len(features)])


@dataclass(frozen=True)
class Snapshot:
    """A preview at one moment."""

    preview: PrototypeClassifier
    images: int
    """Number of images of the complete preview."""

    @property
    def missing(self) -> int:
        """Images that are not encoded yet."""
        return self.images - len(self.preview.labels)


class Previews:
    """A cache of instant previews, built from stored images on submission or on first use.

    A preview with many images is usable before all of them are encoded. Each API process builds its own
    previews and stores none.
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
        self._warm: WarmCache[PartialPrototypes] = WarmCache(BUDGET_BYTES, lambda partial: partial.bytes)
        self._later = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._unusable: dict[str, PartialPrototypes] = {}
        """Previews without an image of every class, by job, to which `_later` adds images."""
        self._closed = threading.Event()

    def prepare(self, job: JobPreview) -> None:
        """Start building a preview, without waiting. Errors are left to the first request for it."""
        with suppress(ClipCiteError), self._entry(job, wait_seconds=0):
            pass

    @contextmanager
    def acquire(self, job: JobPreview) -> Iterator[Snapshot]:
        """Hold a preview in memory.

        Raises:
            StillLoading: it is not usable in time; building goes on.
            ShotsGone: the images or the job were deleted.
            BackboneUnavailable, StorageUnavailable, BlobNotFound.
        """
        until = time.monotonic() + self._engine.wait_seconds
        with ExitStack() as held:
            while True:
                try:
                    left = max(0, until - time.monotonic())
                    prototypes = held.enter_context(self._entry(job, wait_seconds=left))
                    break
                except StillLoading:
                    if time.monotonic() >= until or self._closed.wait(POLL_SECONDS):
                        raise
            yield Snapshot(prototypes.classifier(), prototypes.images)

    def _entry(
        self, job: JobPreview, *, wait_seconds: float | None
    ) -> AbstractContextManager[PartialPrototypes]:
        return self._warm.acquire((PREVIEW, job.id), lambda: self._make(job), wait_seconds=wait_seconds)

    def forget(self, job_id: str) -> None:
        """Drop the preview of a deleted job. Requests that hold it still finish."""
        self._unusable.pop(job_id, None)
        self._warm.forget(lambda key: key[1] == job_id)

    def counts(self) -> CacheStats:
        """Return the counters of the cache."""
        return self._warm.counts(PREVIEW)

    def close(self) -> None:
        """Stop the threads."""
        self._closed.set()
        self._later.shutdown(wait=False, cancel_futures=True)
        self._warm.close()

    def _make(self, job: JobPreview) -> PartialPrototypes:
        """Return a usable preview. One that takes long is left to `_later`, which frees this thread."""
        begun = self._unusable.get(job.id)
        if begun is not None:
            if begun.error is not None:
                self._unusable.pop(job.id, None)
                raise begun.error
            if not begun.has_every_class:
                raise StillLoading("The preview")
            return begun
        with self._database.read() as session:
            shots = chosen_shots(jobs.images(session, job.id))
        if not shots:
            raise ShotsGone(job.id)
        index = {name: i for i, name in enumerate(job.classes)}
        prototypes = PartialPrototypes(torch.tensor([index[shot.class_name] for shot in shots]))
        self._extend(job, prototypes, shots, until=time.monotonic() + MAX_FIRST_SECONDS)
        usable = prototypes.has_every_class
        if not usable:
            self._unusable[job.id] = prototypes
        if prototypes.encoded < prototypes.images:
            self._later.submit(self._finish, job, prototypes, shots)
        if not usable:
            raise StillLoading("The preview")
        return prototypes

    def _finish(self, job: JobPreview, prototypes: PartialPrototypes, shots: Sequence[JobImage]) -> None:
        try:
            self._extend(job, prototypes, shots, until=math.inf)
        except Exception as error:
            # A ClipCiteError: the job was deleted, or the service is closing.
            log = logger.info if isinstance(error, ClipCiteError) else logger.exception
            log("The preview of %s stays at %d images: %s", job.id, prototypes.encoded, error)
            if not prototypes.has_every_class:
                prototypes.error = error
                return
        if self._unusable.get(job.id) is prototypes:
            with suppress(ClipCiteError), self._entry(job, wait_seconds=None):
                pass  # into the cache
            self._unusable.pop(job.id, None)

    def _extend(
        self, job: JobPreview, prototypes: PartialPrototypes, shots: Sequence[JobImage], until: float
    ) -> None:
        with self._engine.acquire(WeightsKey(job.backbone, job.image_size), 0, wait_seconds=None) as stock:
            while prototypes.encoded < prototypes.images and not self._closed.is_set():
                if time.monotonic() > until:
                    return
                batch = shots[prototypes.encoded : prototypes.encoded + BATCH_SIZE]
                prototypes.add(self._features(stock, batch))

    def _features(self, stock: ServedModel, shots: Sequence[JobImage]) -> Tensor:
        """Return the features [n, D] of a small batch, so that other requests come in between."""
        files = (self._blobs.get(shot.blob_key) for shot in shots)
        pixels = []
        how = (stock.preprocess, stock.backbone.image_size, self._limits)
        for image in fitted(files, *how, self._decoders, owner=""):
            if isinstance(image, BadImage):
                raise image
            pixels.append(image)
        return self._engine.encode_images(stock, torch.stack(pixels), wait_seconds=None)


def chosen_shots(images: Sequence[JobImage], max_shots: int = MAX_SHOTS) -> list[JobImage]:
    """Return training images, evenly over the classes and in the order of the upload.

    At most `max_shots` images are returned, and at least one per class.
    """
    counts: Counter[str] = Counter()
    ranked = []
    for image in images:
        if image.split == "train":
            ranked.append((counts[image.class_name], image.position, image))
            counts[image.class_name] += 1
    return [image for _, _, image in sorted(ranked, key=lambda row: row[:2])[: max(max_shots, len(counts))]]
