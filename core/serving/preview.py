"""A job's pictures as a classifier, before it has a model and where it never gets one."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from core.clip.backbone import Backbone
from core.clip.errors import ClipCiteError
from core.clip.images import PictureLimits, open_picture
from core.clip.preview import Preview
from core.serving.batches import Batcher
from core.serving.cache import CacheCounts, WarmCache
from core.serving.network import Network
from core.serving.networks import Networks
from core.settings import Settings
from core.store import jobs
from core.store.blobs import Blobs
from core.store.session import Database
from core.store.tables import Job, Picture

MOST_SHOTS = 512
"""More make no better prototypes, and a first answer would take ever longer."""
BUDGET_BYTES = 64_000_000
PREVIEW = "preview"
AT_ONCE = 16
"""Pictures that are held decoded."""


def is_job(reference: str) -> bool:
    return reference.startswith("job_")


@dataclass(frozen=True)
class JobPreview:
    """What is to be known of a job to classify with its pictures; as of a model's row."""

    id: str
    backbone: str
    image_size: int | None
    classes: list[str]
    """In the order in which its model will have them."""
    templates: list[str]
    texts: dict[str, list[str]]

    @classmethod
    def of(cls, job: Job) -> "JobPreview":
        trained = [count["name"] for count in job.classes if count["images"]]
        config = job.config
        return cls(
            job.id, config["backbone"], config["image_size"], trained, config["templates"], config["texts"]
        )


class Previews:
    """Makes them when a job comes in or they are first asked for, from the stored pictures, and keeps the
    last ones.

    Every API process makes its own; nothing of them is stored.
    """

    def __init__(
        self, settings: Settings, database: Database, blobs: Blobs, networks: Networks, batcher: Batcher
    ) -> None:
        self._limits = PictureLimits(settings.max_picture_bytes, settings.max_picture_pixels)
        self._wait_seconds = settings.model_load_seconds
        self._database = database
        self._blobs = blobs
        self._networks = networks
        self._batcher = batcher
        self._warm: WarmCache[Preview] = WarmCache(BUDGET_BYTES, lambda preview: preview.features.nbytes)

    def prepare(self, job: JobPreview) -> None:
        """Begin, without waiting, so that it is there when it is first asked for. If that fails, whoever asks
        will hear of it."""
        with suppress(ClipCiteError), self._lease(job, wait_seconds=0):
            pass

    @contextmanager
    def lease(self, job: JobPreview) -> Iterator[Preview]:
        """Raises StillLoading if it takes longer than a request waits, and goes on meanwhile;
        BackboneUnavailable, StorageUnavailable, BlobNotFound."""
        with self._lease(job, wait_seconds=self._wait_seconds) as preview:
            yield preview

    def _lease(self, job: JobPreview, *, wait_seconds: float) -> AbstractContextManager[Preview]:
        return self._warm.lease((PREVIEW, job.id), lambda: self._make(job), wait_seconds=wait_seconds)

    def forget(self, job_id: str) -> None:
        """The job was deleted. Requests that hold it still finish."""
        self._warm.forget(lambda key: key[1] == job_id)

    def counts(self) -> CacheCounts:
        return self._warm.counts(PREVIEW)

    def close(self) -> None:
        self._warm.close()

    def _make(self, job: JobPreview) -> Preview:
        with self._database.read() as session:
            shots = chosen_shots(jobs.pictures(session, job.id))
        index = {name: i for i, name in enumerate(job.classes)}
        labels = torch.tensor([index[shot.class_name] for shot in shots])
        with self._networks.stock(job.backbone, job.image_size, wait_seconds=None) as stock:
            features = [
                self._features(stock, shots[start : start + AT_ONCE])
                for start in range(0, len(shots), AT_ONCE)
            ]
        return Preview(torch.cat(features), labels)

    def _features(self, stock: Network, shots: Sequence[Picture]) -> Tensor:
        """A few at a time, so that other answers come in between."""
        pixels = torch.stack([self._pixels(stock.backbone, shot) for shot in shots])
        return self._batcher.wait(self._batcher.submit(*stock.images, pixels), seconds=None)

    def _pixels(self, backbone: Backbone, shot: Picture) -> Tensor:
        picture = open_picture(
            self._blobs.get(shot.blob_key), self._limits, shortest_side=2 * backbone.image_size
        )
        return backbone.preprocess(picture)


def chosen_shots(pictures: Sequence[Picture], most: int = MOST_SHOTS) -> list[Picture]:
    """Training pictures, of every class as many as there is room for, in the order of the upload."""
    seen: Counter[str] = Counter()
    ranked = []
    for picture in pictures:
        if picture.split == "train":
            ranked.append((seen[picture.class_name], picture.position, picture))
            seen[picture.class_name] += 1
    return [picture for _, _, picture in sorted(ranked, key=lambda one: one[:2])[: max(most, len(seen))]]
