"""A job's images as a classifier, before it has a model and where it never gets one."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from core.clip.data.images import ImageLimits
from core.clip.inference.prototypes import PrototypeClassifier
from core.errors import ClipCiteError
from core.serving.decoding import Decoders, fitted
from core.serving.engine import Engine
from core.serving.pool.cache import WarmCache
from core.serving.pool.cache_stats import CacheStats
from core.serving.types import Handle, WeightsKey
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import Job, JobImage
from core.store.jobs import jobs
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
MAX_SHOTS = 512
"""More make no better prototypes, and a first answer would take ever longer."""
BUDGET_BYTES = 64_000_000
PREVIEW = "preview"
AT_ONCE = 16
"""Images that are held decoded."""
SOON = 1.0
"""Seconds after which a preview answers with the images that it has, if every class has one."""


def is_job(reference: str) -> bool:
    return reference.startswith("job_")


@dataclass(frozen=True)
class JobPreview:
    """What is to be known of a job to classify with its images; as of a model's row."""

    id: str
    backbone: str
    image_size: int | None
    classes: list[str]
    """In the order in which its model will have them."""
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
    """A preview that answers while more of its images are still being looked at."""

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels
        self._parts: list[Tensor] = []
        self.bytes = 0
        """When all images are in it."""

    @property
    def images(self) -> int:
        """That will be in it."""
        return len(self._labels)

    @property
    def encoded(self) -> int:
        return sum(map(len, self._parts))

    @property
    def has_every_class(self) -> bool:
        return len(self._labels[: self.encoded].unique()) == len(self._labels.unique())

    def add(self, features: Tensor) -> None:
        self._parts.append(features)
        self.bytes = self.images * features[0].nbytes

    def now(self) -> PrototypeClassifier:
        features = torch.cat(list(self._parts))
        return PrototypeClassifier(features, self._labels[: len(features)])


@dataclass(frozen=True)
class Snapshot:
    """A preview as it is now."""

    preview: PrototypeClassifier
    images: int
    """That will be in it."""


class Previews:
    """Makes them when a job comes in or they are first asked for, from the stored images, and keeps the
    last ones.

    It answers before it has seen all images, if that would take long. Every API process makes its own;
    nothing of them is stored.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        engine: Engine,
        decoders: Decoders,
    ) -> None:
        self._open_image = partial(decoders.open_here, ("", PREVIEW))
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._wait_seconds = settings.model_load_seconds
        self._database = database
        self._blobs = blobs
        self._engine = engine
        self._warm: WarmCache[PartialPrototypes] = WarmCache(BUDGET_BYTES, lambda growing: growing.bytes)
        self._later = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._closed = threading.Event()

    def prepare(self, job: JobPreview) -> None:
        """Begin, without waiting, so that it is there when it is first asked for. If that fails, whoever asks
        will hear of it."""
        with suppress(ClipCiteError), self._lease(job, wait_seconds=0):
            pass

    @contextmanager
    def acquire(self, job: JobPreview) -> Iterator[Snapshot]:
        """Raises StillLoading if it takes longer than a request waits, and goes on meanwhile;
        BackboneUnavailable, StorageUnavailable, BlobNotFound."""
        with self._lease(job, wait_seconds=self._wait_seconds) as growing:
            yield Snapshot(growing.now(), growing.images)

    def _lease(self, job: JobPreview, *, wait_seconds: float) -> AbstractContextManager[PartialPrototypes]:
        return self._warm.acquire((PREVIEW, job.id), lambda: self._make(job), wait_seconds=wait_seconds)

    def forget(self, job_id: str) -> None:
        """The job was deleted. Requests that hold it still finish."""
        self._warm.forget(lambda key: key[1] == job_id)

    def counts(self) -> CacheStats:
        return self._warm.counts(PREVIEW)

    def close(self) -> None:
        self._closed.set()
        self._later.shutdown(wait=False, cancel_futures=True)
        self._warm.close()

    def _make(self, job: JobPreview) -> PartialPrototypes:
        with self._database.read() as session:
            shots = chosen_shots(jobs.images(session, job.id))
        index = {name: i for i, name in enumerate(job.classes)}
        growing = PartialPrototypes(torch.tensor([index[shot.class_name] for shot in shots]))
        self._grow(job, growing, shots, until=time.monotonic() + SOON)
        if growing.encoded < growing.images:
            self._later.submit(self._finish, job, growing, shots)
        return growing

    def _finish(self, job: JobPreview, growing: PartialPrototypes, shots: Sequence[JobImage]) -> None:
        try:
            self._grow(job, growing, shots, until=math.inf)
        except ClipCiteError as error:  # the job was deleted, or we are closing: it stays as it is
            logger.info("The preview of %s stays at %d images: %s", job.id, growing.encoded, error)
        except Exception:
            logger.exception("The preview of %s stays at %d images", job.id, growing.encoded)

    def _grow(
        self, job: JobPreview, growing: PartialPrototypes, shots: Sequence[JobImage], until: float
    ) -> None:
        with self._engine.acquire(WeightsKey(job.backbone, job.image_size), 0, wait_seconds=None) as stock:
            while growing.encoded < growing.images and not self._closed.is_set():
                if time.monotonic() > until and growing.has_every_class:
                    return
                growing.add(self._features(stock, shots[growing.encoded : growing.encoded + AT_ONCE]))

    def _features(self, stock: Handle, shots: Sequence[JobImage]) -> Tensor:
        """A few at a time, so that other answers come in between."""
        files = (self._blobs.get(shot.blob_key) for shot in shots)
        pixels = torch.stack(
            [
                fitted(file, stock.preprocess, stock.image_size, self._limits, self._open_image)
                for file in files
            ]
        )
        return self._engine.encode_images(stock, pixels)


def chosen_shots(images: Sequence[JobImage], most: int = MAX_SHOTS) -> list[JobImage]:
    """Training images, of every class as many as there is room for, in the order of the upload."""
    seen: Counter[str] = Counter()
    ranked = []
    for image in images:
        if image.split == "train":
            ranked.append((seen[image.class_name], image.position, image))
            seen[image.class_name] += 1
    return [image for _, _, image in sorted(ranked, key=lambda one: one[:2])[: max(most, len(seen))]]
