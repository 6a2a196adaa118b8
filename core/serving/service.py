"""Classification with any model at any α: what POST /classify answers."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch

from core.clip.data.images import ImageLimits
from core.clip.errors import UnknownBackbone
from core.errors import ClipCiteError
from core.serving.decoding import Decoders
from core.serving.engine import LocalEngine
from core.serving.limiter import ConcurrencyLimiter
from core.serving.pins import PinnedModels
from core.serving.pool.cache import StillLoading
from core.serving.predictor import Images, LoadedModel, Predictor, recipe
from core.serving.previews import JobPreview, Previews, is_job
from core.serving.text_cache import TextCounts
from core.serving.threads import single_threaded
from core.serving.types import BackboneInfo, ClassifyRequest, ClassifyResult, WeightsKey
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import Model
from core.store.jobs import jobs
from core.store.registry import models
from core.store.registry.references import STOCK
from core.store.storage.blobs import Blobs

MIN_DECODERS = 2
READERS = 4
WARM_UP_AGAIN_SECONDS = 10

Subject = Model | JobPreview | str
"""What can classify. Text is `stock` or `stock:<backbone>`."""
logger = logging.getLogger(__name__)


def is_stock(reference: str) -> bool:
    return reference.partition(":")[0] == STOCK


def look_up(database: Database, references: Sequence[str], *, owner: str) -> list[Subject]:
    """A job's id is its model, and as long as it has none its preview.

    Raises JobNotFound, ModelNotFound.
    """
    found: list[Subject] = list(references)
    with database.read() as session:
        for i, reference in enumerate(references):
            if is_job(reference):
                job = jobs.get(session, reference, owner=owner)
                if job.model_id is None:
                    found[i] = JobPreview.of(job)
                else:
                    found[i] = models.get(session, job.model_id, owner=owner)
            elif not is_stock(reference):
                found[i] = models.resolve(session, reference, owner=owner)
    return found


class Serving:
    """Loads networks when they are first asked for and keeps the recently used ones."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.engine = LocalEngine(settings, database, blobs)
        self.decoders = max(MIN_DECODERS, torch.get_num_threads())
        self.gate = ConcurrencyLimiter(
            settings.max_waiting_images, lambda: self.engine.stats().batches.seconds_to_wait
        )
        self.decoding = Decoders(self.decoders, settings.decode_bytes)
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        """For files that are shown, not computed with: each of these holds one."""
        self.previews = Previews(settings, database, blobs, self.engine, self.decoding)
        self.requests = single_threaded(settings.max_waiting_images, "request")
        """For those whom the gate let in: they wait for the models, not for each other's threads."""
        self._pins = PinnedModels(settings.pinned_models, self.engine, database)
        self._answerer = Predictor(self.engine, settings)
        self._default = WeightsKey(settings.backbone, recipe(settings.backbone).image_size)
        self._resident = ExitStack()
        self._warm_up_error: ClipCiteError | None = None
        self._closed = threading.Event()

    def warm_up(self) -> None:
        """Load the default backbone, for good, so that the first request need not wait for it; then the
        pinned models, as long as the service is open if there are any. Tries until it works or the service
        closes: the operator may yet bring the files, or the hub come back."""
        while not self._closed.is_set():
            try:
                self._resident.enter_context(self.engine.acquire(self._default, 0, wait_seconds=None))
                break
            except ClipCiteError as error:
                logger.warning("The default backbone is not there: %s", error)
                self._warm_up_error = error
            except Exception:  # a fault of ours: the next try may do without it
                logger.exception("The default backbone could not be loaded; trying again")
            self._closed.wait(WARM_UP_AGAIN_SECONDS)
        self._pins.run(until=self._closed)

    def prepare_preview(self, job: JobPreview) -> None:
        """For a job that has just come in, if its backbone is in memory anyway."""
        usual = (self._default.backbone, self._default.image_size)
        if (job.backbone, job.image_size) == usual and self._default_backbone() is not None:
            self.previews.prepare(job)

    def ready(self) -> None:
        """Raises unless the default backbone is loaded, with the reason. Loads nothing itself."""
        if self._default_backbone() is None:
            raise self._warm_up_error or StillLoading("The default backbone")

    @property
    def precision(self) -> str | None:
        """Of the default backbone as it serves; None until it is loaded."""
        known = (b for b in self.engine.stats().backbones if b.name == self.settings.backbone)
        return next((backbone.precision for backbone in known), None)

    def text_counts(self) -> TextCounts:
        return self._answerer.text_counts()

    def close(self) -> None:
        self._closed.set()
        self.engine.close()
        self._answerer.close()
        self.previews.close()
        self.decoding.close()
        self.readers.shutdown(wait=False, cancel_futures=True)
        self.requests.shutdown(wait=False, cancel_futures=True)

    def forget(self, model_id: str) -> None:
        """The model was deleted. Requests that hold it still finish."""
        gone = tuple(f"{orphan.key}@" for orphan in self.engine.forget(model_id))
        self._answerer.forget(lambda model: model.startswith(gone))

    def classify(
        self, images: Sequence[bytes], question: ClassifyRequest, *, model: Subject = STOCK
    ) -> ClassifyResult:
        """Score images against class names, with what `look_up` found: a model's row, the preview of a job,
        `stock` or `stock:<backbone>`.

        Raises:
            ModelNotFound: it was deleted since. UnknownBackbone, StillLoading, BackboneUnavailable.
            StorageUnavailable, BlobNotFound.
            ModelUnavailable: its files are missing or damaged; it is tried again every half minute.
            NoReadableImage: none of the images can be read.
            NotCalibrated: `coverage` or `reject` is asked for, and nothing is known.
            Busy: others are being served for too long.
        """
        (answer,) = self.compare(images, question, models=[model])
        return answer

    def compare(
        self,
        images: Sequence[bytes],
        question: ClassifyRequest,
        *,
        models: Sequence[Subject],
        owner: str = "",
    ) -> list[ClassifyResult]:
        """The answers of several models, each as from `classify`, which says what is raised. Images are
        decoded once for those on the same backbone. `owner`: whose turn that takes."""
        limits = ImageLimits(self.settings.max_image_bytes, self.settings.max_image_pixels)
        shared = Images(images, limits, self.decoding, owner)
        answers = []
        for model in models:
            started = time.perf_counter()
            with self._lend(model, question.alpha) as answering:
                answers.append(self._answerer.answer(shared, question, answering, started))
        return answers

    @contextmanager
    def _lend(self, model: Subject, alpha: float | None) -> Iterator[LoadedModel]:
        wait = self.settings.model_load_seconds
        if isinstance(model, JobPreview):
            stock = WeightsKey(model.backbone, model.image_size)
            with (
                self.engine.acquire(stock, 0, wait_seconds=wait) as handle,
                self.previews.acquire(model) as preview,
            ):
                yield LoadedModel(handle, preview, model, model.id, model.backbone, 0.0)
        elif isinstance(model, str):
            asked = model.removeprefix(STOCK).removeprefix(":") or self.settings.backbone
            known = self.settings.known_backbone(asked)
            if known is None:
                raise UnknownBackbone(
                    f"There is no backbone {asked!r} here. The operator lists backbones in "
                    "CLIPCITE_BACKBONES."
                )
            stock = WeightsKey(known, recipe(known).image_size)
            with self.engine.acquire(stock, 0, wait_seconds=wait) as handle:
                yield LoadedModel(handle, None, None, model, asked, 0.0)
        else:
            alpha = model.alpha if alpha is None else alpha
            with self.engine.acquire(WeightsKey.of(model), alpha, wait_seconds=wait) as handle:
                yield LoadedModel(handle, None, model, model.id, model.backbone, alpha)

    def _default_backbone(self) -> BackboneInfo | None:
        """The default backbone, if it is in memory."""
        size = self._default.image_size
        for known in self.engine.stats().backbones:
            same_size = known.own_size if size is None else known.image_size == size
            if known.name == self._default.backbone and same_size:
                return known
        return None
