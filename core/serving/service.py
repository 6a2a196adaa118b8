"""Classification with any model at any α: what POST /classify answers."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from core.clip.backbone import Backbone, load_backbone
from core.clip.balance import NEW, NEW_NAMES_BALANCE
from core.clip.classifier import Classifier
from core.clip.confidence import Confidence
from core.clip.config import resolve_config
from core.clip.errors import BadPicture, ClipCiteError, CorruptWeights, UnknownBackbone
from core.clip.images import PictureLimits
from core.clip.manifest import read_manifest
from core.clip.prompts import class_indices, class_texts
from core.clip.weights import Weights, load_weights
from core.serving.cache import CacheCounts, StillLoading, WarmCache
from core.serving.confident import NotCalibrated, confidence_for, judge
from core.serving.pictures import Pictures
from core.serving.preview import JobPreview, Previews, WarmPreview
from core.serving.references import Subject
from core.serving.unavailable import Unavailable
from core.serving.warm import WarmClassifier
from core.settings import Settings
from core.store import models
from core.store.blobs import Blobs
from core.store.errors import BlobNotFound, ModelNotFound
from core.store.names import STOCK
from core.store.session import Database
from core.store.tables import Model

DECODERS = 4
BACKBONES = 6
WARM_UP_AGAIN_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassName:
    name: str
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Prediction:
    class_name: str
    kind: str
    """`trained` or `new`, for this model."""
    probability: float
    similarity: float


@dataclass(frozen=True)
class Answer:
    model: str
    preview: bool
    """It comes from the pictures of a job that has no model."""
    backbone: str
    alpha: float
    kinds: dict[str, str]
    offsets: dict[str, float]
    """What was taken off the cosines of each name before the softmax."""
    results: list[list[Prediction] | BadPicture]
    """For each picture its best classes, best first, or why it can't be read."""
    confidence: Confidence | None
    """With it the probabilities are calibrated; None where nothing is known."""
    sets: list[list[str]]
    """With confidence, for each picture that can be read: the names among which the true one is as often as
    was asked for, best first."""
    rejected: list[bool]
    """Likewise: whether it looks like none of the names."""
    timing_ms: dict[str, float]


class Serving:
    """Loads networks when they are first asked for and keeps the recently used ones."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        # Every adapted model stands on one, and holds it while it is warm; here are the last few.
        self._backbones: OrderedDict[tuple[str, int | None], Backbone] = OrderedDict()
        self._backbone_lock = threading.Lock()
        self._warm_up_error: ClipCiteError | None = None
        self._closed = threading.Event()
        self._default_size = resolve_config(backbone=settings.backbone).image_size
        self._warm: WarmCache[WarmClassifier] = WarmCache(settings.model_cache_bytes, lambda warm: warm.bytes)
        self._unavailable = Unavailable()
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        # One forward pass at a time: it uses every core, or the whole GPU, already.
        self._compute = threading.Lock()
        self.previews = Previews(settings, database, blobs, self._stock_of, self._compute)

    def warm_up(self) -> None:
        """Load the default backbone, so that the first request need not wait for it. Tries until it
        works or the service closes: the operator may yet bring the files, or the hub come back."""
        while not self._closed.is_set():
            try:
                self._stock(self.settings.backbone, wait_seconds=None)
                return
            except RuntimeError:  # the loaders are closed: so is the service
                return
            except ClipCiteError as error:
                logger.warning("The default backbone is not there: %s", error)
                self._warm_up_error = error
            self._closed.wait(WARM_UP_AGAIN_SECONDS)

    def ready(self) -> None:
        """Raises unless the default backbone is loaded, with the reason. Loads nothing itself."""
        if (self.settings.backbone, self._default_size) not in self._backbones:
            raise self._warm_up_error or StillLoading(
                "The default backbone is still being loaded. Ask again in a few seconds."
            )

    def warm_models(self) -> CacheCounts:
        return self._warm.counts()

    def unavailable_models(self) -> int:
        return self._unavailable.count()

    def close(self) -> None:
        self._closed.set()
        self._warm.close()
        self.previews.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def forget(self, model_id: str) -> None:
        """The model was deleted. Requests that hold it still finish."""
        self._warm.drop(lambda key: isinstance(key, tuple) and key[0] == model_id)
        self._unavailable.forget(model_id)

    def classify(
        self,
        pictures: Sequence[bytes],
        class_names: Sequence[ClassName],
        *,
        model: Subject = STOCK,
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        new_names_balance: float = NEW_NAMES_BALANCE,
        top_k: int | None = None,
        coverage: float | None = None,
        reject: bool = False,
    ) -> Answer:
        """Score pictures against class names, with what `look_up` found: a model's row, the preview of a job,
        `stock` or `stock:<backbone>`.

        Raises:
            ModelNotFound: it was deleted since. UnknownBackbone, StillLoading, BackboneUnavailable.
            StorageUnavailable, BlobNotFound.
            ModelUnavailable: its files are missing or damaged; it is tried again every half minute.
            NoReadablePicture: none of the pictures can be read.
            NotCalibrated: `coverage` or `reject` is asked for, and nothing is known.
            Busy: others are being served for too long.
        """
        (answer,) = self.compare(
            pictures,
            class_names,
            models=[model],
            alpha=alpha,
            templates=templates,
            new_names_balance=new_names_balance,
            top_k=top_k,
            coverage=coverage,
            reject=reject,
        )
        return answer

    def compare(
        self,
        pictures: Sequence[bytes],
        class_names: Sequence[ClassName],
        *,
        models: Sequence[Subject],
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        new_names_balance: float = NEW_NAMES_BALANCE,
        top_k: int | None = None,
        coverage: float | None = None,
        reject: bool = False,
    ) -> list[Answer]:
        """The answers of several models, each as from `classify`, which says what is raised. Pictures are
        decoded once for those on the same backbone."""
        limits = PictureLimits(self.settings.max_picture_bytes, self.settings.max_picture_pixels)
        shared = Pictures(pictures, limits, self._decoders)
        return [
            self._answer(
                shared,
                class_names,
                model,
                alpha=alpha,
                templates=templates,
                new_names_balance=new_names_balance,
                top_k=top_k,
                coverage=coverage,
                reject=reject,
            )
            for model in models
        ]

    def _answer(
        self,
        pictures: Pictures,
        class_names: Sequence[ClassName],
        model: Subject,
        *,
        alpha: float | None,
        templates: Sequence[str] | None,
        new_names_balance: float,
        top_k: int | None,
        coverage: float | None,
        reject: bool,
    ) -> Answer:
        started = time.perf_counter()
        row: Model | JobPreview | None = None
        warm: WarmClassifier | WarmPreview
        if isinstance(model, JobPreview):
            row = model
            backbone_name = row.backbone
            alpha = 0.0
            warm = self.previews.get(row)
        elif isinstance(model, str):
            backbone_name = model.removeprefix(STOCK).removeprefix(":") or self.settings.backbone
            alpha = 0.0
            warm = self._stock(backbone_name, wait_seconds=self.settings.model_load_seconds)
        else:
            row = model
            backbone_name = row.backbone
            alpha = row.alpha if alpha is None else alpha
            warm = self._adapted(row, alpha)
        known = confidence_for(
            row if isinstance(row, Model) else None,
            [c.name for c in class_names],
            own_texts=any(c.texts for c in class_names),
            alpha=alpha,
            templates=templates,
            balance=new_names_balance,
        )
        if known is None and (reject or coverage is not None):
            raise NotCalibrated
        own_texts: Mapping[str, Sequence[str]] = row.texts if row else {}
        recipe = resolve_config(backbone=backbone_name)
        templates = templates or (row.templates if row else recipe.templates)
        names = [c.name for c in class_names]
        classes = class_indices(names, row.classes if row else ())
        kinds = {name: "new" if c == NEW else "trained" for name, c in zip(names, classes, strict=True)}
        texts = [c.texts or class_texts(c.name, templates, own_texts) for c in class_names]

        decoding = time.perf_counter()
        decoded = pictures.decoded(warm.classifier.backbone)
        good = [pixels for pixels in decoded if isinstance(pixels, Tensor)]
        bad = [problem for problem in decoded if isinstance(problem, BadPicture)]
        if not good:
            raise NoReadablePicture(bad)
        pixels = torch.stack(good)
        encoding = time.perf_counter()
        if not self._compute.acquire(timeout=self.settings.model_load_seconds):
            raise Busy("Other classifications are being worked on. Ask again in a few seconds.")
        try:
            head = warm.text_features(texts)
            scores = warm.classifier.scores(
                warm.classifier.image_features(pixels),
                head,
                classes=classes,
                balance=new_names_balance,
            )
        finally:
            self._compute.release()
        judged = None
        if known is not None:
            judged = judge(known, scores, warm.classifier.backbone.logit_scale, coverage or 0.0)
            scores = judged.scores
        encoded = time.perf_counter()

        top = scores.probabilities.topk(min(top_k or len(texts), len(texts)), dim=-1)
        ranked = iter(
            [
                Prediction(names[c], kinds[names[c]], probability, float(similarities[c]))
                for probability, c in zip(row_p, row_c, strict=True)
            ]
            for row_p, row_c, similarities in zip(
                top.values.tolist(), top.indices.tolist(), scores.similarities, strict=True
            )
        )
        return Answer(
            model=model if isinstance(model, str) else model.id,
            preview=isinstance(row, JobPreview),
            backbone=backbone_name,
            alpha=alpha,
            kinds=kinds,
            offsets=dict(zip(names, scores.offsets.tolist(), strict=True)),
            results=[p if isinstance(p, BadPicture) else next(ranked) for p in decoded],
            confidence=known,
            sets=[] if judged is None else judged.names(names),
            rejected=[] if judged is None else judged.rejected.tolist(),
            timing_ms={
                "decode": round(1000 * (encoding - decoding), 2),
                "encode": round(1000 * (encoded - encoding), 2),
                "total": round(1000 * (time.perf_counter() - started), 2),
            },
        )

    def _stock(self, name: str, *, wait_seconds: float | None) -> WarmClassifier:
        known = self.settings.known_backbone(name)
        if known is None:
            raise UnknownBackbone(
                f"There is no backbone {name!r} here. The operator lists backbones in CLIPCITE_BACKBONES."
            )
        return self._shared(known, resolve_config(backbone=known).image_size, wait_seconds)

    def _shared(self, name: str, size: int | None, wait_seconds: float | None) -> WarmClassifier:
        """A backbone as it is: stock, and every adapted model at α = 0."""

        def load() -> WarmClassifier:
            return WarmClassifier(Classifier(self._backbone(name, size)), shared=True)

        return self._warm.get((STOCK, name, size), load, wait_seconds=wait_seconds)

    def _stock_of(self, name: str, size: int | None) -> WarmClassifier:
        """For a preview, whose loader may wait."""
        return self._shared(name, size, None)

    def _adapted(self, row: Model, alpha: float) -> WarmClassifier:
        if alpha == 0:
            return self._shared(row.backbone, row.image_size, self.settings.model_load_seconds)

        def load() -> WarmClassifier:
            backbone = self._backbone(row.backbone, row.image_size)
            return WarmClassifier(Classifier(backbone, self._weights(row, backbone), alpha), shared=False)

        return self._warm.get((row.id, alpha), load, wait_seconds=self.settings.model_load_seconds)

    @contextmanager
    def lend(self, row: Model) -> Iterator[tuple[Backbone, Weights]]:
        """An adapted model in its parts, which nobody changes.

        Raises ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """
        with self.backbone(row.backbone, row.image_size) as backbone:
            yield backbone, self._weights(row, backbone)

    @contextmanager
    def backbone(self, name: str, image_size: int | None) -> Iterator[Backbone]:
        """One of the operator's, which nobody changes. Raises BackboneUnavailable."""
        yield self._backbone(name, image_size)

    def _weights(self, row: Model, backbone: Backbone) -> Weights:
        self._unavailable.check(row.id)
        try:
            manifest = read_manifest(self.blobs.get(row.manifest_key))
            if manifest.sha256 != row.sha256:
                raise CorruptWeights("Its manifest is of other weights than were published.")
            weights = load_weights(self.blobs.get(row.weights_key), manifest, backbone)
        except (CorruptWeights, BlobNotFound) as error:
            with self.database.read() as session:
                if not models.exists(session, row.id):  # deleted since we looked
                    raise ModelNotFound(row.id) from error
            raise self._unavailable.refuse(row.id, error) from error
        self._unavailable.forget(row.id)
        return weights

    def _backbone(self, name: str, image_size: int | None) -> Backbone:
        """Only called by loaders, which may wait."""
        with self._backbone_lock:
            key = (name, image_size)
            if key not in self._backbones:
                backbone = load_backbone(
                    name, cache=self.settings.cache, image_size=image_size, device=self.settings.device
                )
                # A model names the size, a recipe may leave it to the network: one and the same.
                self._backbones[key] = self._backbones.setdefault((name, backbone.image_size), backbone)
            self._backbones.move_to_end(key)
            for old in list(self._backbones)[:-BACKBONES]:
                if old[0] != self.settings.backbone or old[1] != self._default_size:
                    del self._backbones[old]
            return self._backbones[key]


class Busy(ClipCiteError):
    code = "busy"
    status = 503
    retry_after = 5


class NoReadablePicture(ClipCiteError):
    """Every picture of a request is bad; `problems` has the reason of each."""

    code = "bad_pictures"
    status = 422

    def __init__(self, problems: Sequence[BadPicture]) -> None:
        super().__init__("None of the pictures can be read; see errors.")
        self.problems = list(problems)
