"""A job's pictures as a classifier, before it has a model and where it never gets one."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from core.clip.backbone import Backbone
from core.clip.balance import NEW_NAMES_BALANCE
from core.clip.classifier import Classifier, Scores
from core.clip.images import PictureLimits, open_picture
from core.clip.preview import Preview
from core.serving.cache import CacheCounts, WarmCache
from core.serving.warm import WarmClassifier
from core.settings import Settings
from core.store import jobs
from core.store.blobs import Blobs
from core.store.session import Database
from core.store.tables import Job, Picture

MOST_SHOTS = 512
"""More make no better prototypes, and a first answer would take ever longer."""
BUDGET_BYTES = 64_000_000
AT_ONCE = 16
"""Pictures between which other classifications get their turn."""


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


class PreviewClassifier(Classifier):
    """The stock backbone, shared, that knows some pictures of its names."""

    def __init__(self, backbone: Backbone, preview: Preview) -> None:
        super().__init__(backbone)
        self.preview = preview

    def scores(
        self,
        image_features: Tensor,
        text_features: Tensor,
        *,
        classes: Sequence[int],
        balance: float = NEW_NAMES_BALANCE,
    ) -> Scores:
        """As of any classifier; `similarities` are the cosines with the head of the preview."""
        similarities, offsets = self.preview.cosines(image_features, text_features, classes, balance)
        probabilities = (self.backbone.logit_scale * (similarities - offsets)).softmax(dim=-1)
        return Scores(probabilities.cpu(), similarities.cpu(), offsets.cpu())


@dataclass(frozen=True)
class WarmPreview:
    """As of a WarmClassifier; texts are remembered with the stock backbone, which read them."""

    classifier: PreviewClassifier
    stock: WarmClassifier

    @property
    def bytes(self) -> int:
        features = self.classifier.preview.features
        return features.numel() * features.element_size()

    def text_features(self, texts: Sequence[tuple[str, ...]]) -> Tensor:
        return self.stock.text_features(texts)


class Previews:
    """Makes them when they are first asked for, from the stored pictures, and keeps the last ones.

    Every API process makes its own; nothing of them is stored.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        load_stock: Callable[[str, int | None], WarmClassifier],
        computing: AbstractContextManager[object],
    ) -> None:
        """`computing` is held for a few pictures at a time, so that other answers come in between."""
        self._limits = PictureLimits(settings.max_picture_bytes, settings.max_picture_pixels)
        self._wait_seconds = settings.model_load_seconds
        self._database = database
        self._blobs = blobs
        self._load_stock = load_stock
        self._computing = computing
        self._warm: WarmCache[WarmPreview] = WarmCache(BUDGET_BYTES, lambda warm: warm.bytes)

    def get(self, job: JobPreview) -> WarmPreview:
        """Raises StillLoading if it takes longer than a request waits, and goes on meanwhile;
        BackboneUnavailable, StorageUnavailable, BlobNotFound."""
        return self._warm.get(job.id, lambda: self._make(job), wait_seconds=self._wait_seconds)

    def forget(self, job_id: str) -> None:
        """The job was deleted. Requests that hold it still finish."""
        self._warm.drop(lambda key: key == job_id)

    def counts(self) -> CacheCounts:
        return self._warm.counts()

    def close(self) -> None:
        self._warm.close()

    def _make(self, job: JobPreview) -> WarmPreview:
        stock = self._load_stock(job.backbone, job.image_size)
        backbone = stock.classifier.backbone
        with self._database.read() as session:
            shots = chosen_shots(jobs.pictures(session, job.id))
        index = {name: i for i, name in enumerate(job.classes)}
        labels = torch.tensor([index[shot.class_name] for shot in shots])
        features = [
            self._features(stock.classifier, shots[start : start + AT_ONCE])
            for start in range(0, len(shots), AT_ONCE)
        ]
        preview = Preview(torch.cat(features), labels.to(backbone.device))
        return WarmPreview(PreviewClassifier(backbone, preview), stock)

    def _features(self, classifier: Classifier, shots: Sequence[Picture]) -> Tensor:
        pixels = torch.stack([self._pixels(classifier.backbone, shot) for shot in shots])
        with self._computing:
            return classifier.image_features(pixels)

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
