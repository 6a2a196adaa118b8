"""Classification with any model at any α: what POST /classify answers."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch

from core.clip.data.images import ImageLimits
from core.clip.models.backbone import Backbone, find_device
from core.clip.models.features import PICTURES_AT_ONCE, PICTURES_AT_ONCE_ON_CPU
from core.clip.weights.files import Weights
from core.errors import ClipCiteError
from core.serving.batching.batcher import Batcher
from core.serving.batching.threads import single_threaded
from core.serving.decoding import Decoders
from core.serving.images import Pictures
from core.serving.limiter import ConcurrencyLimiter
from core.serving.pins import PinnedModels
from core.serving.pool.cache import StillLoading
from core.serving.pool.model_pool import ModelPool
from core.serving.predictor import LoadedModel, Predictor, recipe
from core.serving.previews import JobPreview, Previews
from core.serving.references import Subject
from core.serving.text_cache import TextCache
from core.serving.types import ClassifyRequest, ClassifyResult
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import Model
from core.store.registry.references import STOCK
from core.store.storage.blobs import Blobs

MIN_DECODERS = 2
READERS = 4
MAX_BATCH_ROWS = {
    "cpu": {"images": PICTURES_AT_ONCE_ON_CPU, "texts": 32},
    "cuda": {"images": PICTURES_AT_ONCE, "texts": 256},
}
"""Rows of a batch. More texts would keep others waiting on a CPU."""
MAX_WORKERS = 4
"""Batches computed at a time on a CPU: each reads all of the network's weights."""
WARM_UP_AGAIN_SECONDS = 10

logger = logging.getLogger(__name__)


class Serving:
    """Loads networks when they are first asked for and keeps the recently used ones."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.networks = ModelPool(settings, database, blobs)
        self.texts = TextCache(settings.text_cache_bytes)
        self.device = find_device(settings.device).type
        self.decoders = max(MIN_DECODERS, torch.get_num_threads())
        workers = min(MAX_WORKERS, torch.get_num_threads()) if self.device == "cpu" else 1
        self.batcher = Batcher(MAX_BATCH_ROWS[self.device], workers)
        self.gate = ConcurrencyLimiter(settings.max_waiting_pictures, self.batcher.seconds_to_wait)
        self.decoding = Decoders(self.decoders, settings.decode_bytes)
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        """For files that are shown, not computed with: each of these holds one."""
        self.previews = Previews(settings, database, blobs, self.networks, self.batcher, self.decoding)
        self.requests = single_threaded(settings.max_waiting_pictures, "request")
        """For those whom the gate let in: they wait for the networks, not for each other's threads."""
        self._pins = PinnedModels(settings.pinned_models, self.networks, database)
        self._answerer = Predictor(self.batcher, self.texts, lambda: settings.model_load_seconds)
        self._default_size = recipe(settings.backbone).image_size
        self._resident = ExitStack()
        self._warm_up_error: ClipCiteError | None = None
        self._closed = threading.Event()

    def warm_up(self) -> None:
        """Load the default backbone, for good, so that the first request need not wait for it; then the
        pinned models, as long as the service is open if there are any. Tries until it works or the service
        closes: the operator may yet bring the files, or the hub come back."""
        while not self._closed.is_set():
            try:
                stock = self.networks.stock(self.settings.backbone, self._default_size, wait_seconds=None)
                self._resident.enter_context(stock)
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
        usual = (self.settings.backbone, self._default_size)
        if (job.backbone, job.image_size) == usual and self.networks.has_backbone(*usual):
            self.previews.prepare(job)

    def ready(self) -> None:
        """Raises unless the default backbone is loaded, with the reason. Loads nothing itself."""
        if not self.networks.has_backbone(self.settings.backbone, self._default_size):
            raise self._warm_up_error or StillLoading("The default backbone")

    @property
    def precision(self) -> str | None:
        """Of the default backbone as it serves; None until it is loaded."""
        stocks = (stock for stock, _ in self.networks.warm_backbones())
        return next((s.precision for s in stocks if s.backbone.name == self.settings.backbone), None)

    def close(self) -> None:
        self._closed.set()
        self.batcher.close()
        self.networks.close()
        self.previews.close()
        self.decoding.close()
        self.readers.shutdown(wait=False, cancel_futures=True)
        self.requests.shutdown(wait=False, cancel_futures=True)

    def forget(self, model_id: str) -> None:
        """The model was deleted. Requests that hold it still finish."""
        gone = tuple(f"{content.key}@" for content in self.networks.forget(model_id))
        self.texts.forget(lambda network: network.startswith(gone))

    @contextmanager
    def acquire(self, row: Model) -> Iterator[tuple[Backbone, Weights]]:
        """An adapted model in its parts, which nobody changes.

        Raises ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """
        with self.networks.parts(row) as parts:
            yield parts

    @contextmanager
    def backbone(self, name: str, image_size: int | None) -> Iterator[Backbone]:
        """One of the operator's, which nobody changes. Raises BackboneUnavailable."""
        with self.networks.stock(name, image_size, wait_seconds=None) as stock:
            yield stock.backbone

    def classify(
        self, pictures: Sequence[bytes], question: ClassifyRequest, *, model: Subject = STOCK
    ) -> ClassifyResult:
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
        (answer,) = self.compare(pictures, question, models=[model])
        return answer

    def compare(
        self,
        pictures: Sequence[bytes],
        question: ClassifyRequest,
        *,
        models: Sequence[Subject],
        owner: str = "",
    ) -> list[ClassifyResult]:
        """The answers of several models, each as from `classify`, which says what is raised. Pictures are
        decoded once for those on the same backbone. `owner`: whose turn that takes."""
        limits = ImageLimits(self.settings.max_picture_bytes, self.settings.max_picture_pixels)
        shared = Pictures(pictures, limits, self.decoding, owner)
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
            with (
                self.networks.stock(model.backbone, model.image_size, wait_seconds=wait) as stock,
                self.previews.acquire(model) as preview,
            ):
                yield LoadedModel(stock, preview, model, model.id, model.backbone, 0.0)
        elif isinstance(model, str):
            asked = model.removeprefix(STOCK).removeprefix(":") or self.settings.backbone
            known = self.networks.known(asked)
            with self.networks.stock(known, recipe(known).image_size, wait_seconds=wait) as stock:
                yield LoadedModel(stock, None, None, model, asked, 0.0)
        else:
            alpha = model.alpha if alpha is None else alpha
            with self.networks.adapted(model, alpha, wait_seconds=wait) as network:
                yield LoadedModel(network, None, model, model.id, model.backbone, alpha)
