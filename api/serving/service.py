"""Models for classification: look-up, models in memory, and the default backbone."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch

from api.serving.calibrated import stored_calibration
from api.serving.engine import Engine
from api.serving.held_model import HeldModel, recipe
from api.serving.lru_cache import LruCache
from api.serving.pool.cache import StillLoading
from api.serving.previews import JobPreview, Previews, is_job
from api.serving.texts import Texts
from api.serving.threads import single_threaded
from api.serving.types import MAX_IN_FLIGHT, WeightsKey
from clipcite.types.classify import STOCK
from clipcite.types.health import Preparing
from core.admission import Budget
from core.clip.config import STARTER, round_alpha
from core.clip.data.decoders import Decoders
from core.clip.data.header import ImageLimits
from core.clip.errors import NoDecoder, UnknownBackbone
from core.clip.models import backbones
from core.clip.models.starter import FOLDER as STARTER_FOLDER
from core.errors import ExpectedError
from core.settings import Settings
from core.store import backbones as store
from core.store.accounts import audit
from core.store.db.session import Database
from core.store.db.tables import Model
from core.store.errors import DatabaseUnavailable
from core.store.jobs import jobs
from core.store.registry import models
from core.store.storage.blobs import Blobs

MIN_DECODERS = 2
WARM_UP_AGAIN_SECONDS = 10
NEIGHBOUR_BYTES = 60_000_000
"""Memory for the neighbours among the images of piles (bytes), 2.4 MB for 20,000 images."""
REFRESH_SECONDS = 2.0
"""Interval at which the choice of the default backbone is read (seconds)."""

Subject = Model | JobPreview | str
"""What a request classifies with. A string is `stock` or `stock:<backbone>`."""
logger = logging.getLogger(__name__)


def look_up(database: Database, reference: str, *, owner: str) -> Subject:
    """Resolve a reference. A job's id means its model or, until that exists, its instant preview.

    Raises JobNotFound, ModelNotFound.
    """
    if reference.partition(":")[0] == STOCK:
        return reference
    with database.read() as session:
        if not is_job(reference):
            return models.resolve(session, reference, owner=owner)
        job = jobs.get(session, reference, owner=owner)
        if job.model_id is None:
            return JobPreview.of(job)
        return models.get(session, job.model_id, owner=owner)


class Serving:
    """Classification service. It loads models on first use and keeps recently used ones."""

    def __init__(
        self, settings: Settings, database: Database, blobs: Blobs, memory: Budget | None = None
    ) -> None:
        self.settings = settings
        self.database = database
        self.blobs = blobs
        self.engine = Engine(settings, database, blobs)
        self.decoders = max(MIN_DECODERS, torch.get_num_threads())
        self.memory = memory or Budget(settings.memory_bytes)
        self.images = Budget(MAX_IN_FLIGHT, "Too many classifications are in progress.", retry_after=2)
        """Images in flight. Every PROMPTS_PER_IMAGE new prompts count as one."""
        self.decoding = Decoders(self.decoders, owner=lambda: audit.actor().owner)
        self.previews = Previews(settings, database, blobs, self.engine, self.decoding)
        self.requests = single_threaded(MAX_IN_FLIGHT, "request")
        """Threads of the requests, one for each that `images` can admit, so requests never wait for one."""
        self.texts = Texts(self.engine)
        self.neighbours = LruCache(NEIGHBOUR_BYTES)
        """Neighbours among the images of a pile, by a hash of their features."""
        self.limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._default = WeightsKey(settings.backbone, recipe(settings.backbone).image_size)
        self._resident = ExitStack()
        self._warm_up_error: ExpectedError | None = None
        self._closed = threading.Event()

    def warm_up(self) -> None:
        """Load the default backbone and keep it.

        Loading is retried until it succeeds, because missing files or an unreachable hub may come back.
        """
        with suppress(NoDecoder):  # it is logged, and the next image tries again
            self.decoding.start()
        while not self._closed.is_set():
            if self._load_default() is None:
                break
            self._closed.wait(WARM_UP_AGAIN_SECONDS)

    def follow_default(self) -> None:
        """Until `close`, load each newly chosen default backbone, while the old one still serves."""
        wait = REFRESH_SECONDS
        while not self._closed.wait(wait):
            wait = REFRESH_SECONDS if self._load_default() is None else WARM_UP_AGAIN_SECONDS

    def _load_default(self) -> ExpectedError | None:
        """Load the default backbone unless it is in memory. Return the error, if any."""
        try:
            with self.database.read() as session:
                name = store.default(session, self.settings)
            if not self.has_backbone(name):  # removed after it was chosen
                name = self.settings.backbone
        except DatabaseUnavailable:
            name = self._default.backbone
        chosen = WeightsKey(name, recipe(name).image_size)
        if chosen == self._default and self._is_default_loaded():
            return None
        try:
            with ExitStack() as held:
                held.enter_context(self.engine.pool.acquire(chosen, 0, wait_seconds=None))
                before, self._resident = self._resident, held.pop_all()
                self._default = chosen
                before.close()
        except ExpectedError as error:
            if str(error) != str(self._warm_up_error):
                logger.warning("%s Trying again in %s s.", error, WARM_UP_AGAIN_SECONDS)
            self._warm_up_error = error
            return error
        except Exception:  # a bug; the next try may succeed
            logger.exception("The default backbone could not be loaded. Retrying.")
            return StillLoading("The default backbone")
        return None

    @property
    def default_backbone(self) -> str:
        """Name of the backbone that `stock` denotes."""
        return self._default.backbone

    def has_backbone(self, name: str) -> bool:
        """Return whether a backbone is installed or in the settings."""
        if name in {STARTER, self.settings.backbone, *self.settings.backbones}:
            return True
        try:
            found = backbones.read(name, self.settings.cache)
        except (ExpectedError, ValueError):  # damaged, or not a valid file name
            return False
        return found is not None and found.name == name

    def stock_backbone(self, reference: str) -> str:
        """Return the backbone of `stock` or `stock:<backbone>`. Raise UnknownBackbone."""
        name = reference.removeprefix(STOCK).removeprefix(":") or self._default.backbone
        if not self.has_backbone(name):
            raise UnknownBackbone(
                f"There is no backbone {name!r} here. Use `stock`, or ask the operator to add it to "
                "CLIPCITE_BACKBONES."
            )
        return name

    def prepare_preview(self, job: JobPreview) -> None:
        """Start the instant preview of a new job, if its backbone is already in memory."""
        if WeightsKey(job.backbone, job.image_size) == self._default and self._is_default_loaded():
            self.previews.prepare(job)

    def ready(self) -> None:
        """Raise the error, or StillLoading, if the default backbone is not loaded. Nothing is loaded here."""
        if not self._is_default_loaded():
            raise self._warm_up_error or StillLoading("The default backbone")

    def preparing(self) -> Preparing | None:
        """Return the current step of loading the default backbone. None: it is loaded, or has failed.

        The progress of a download is read from the cache, because the trainer may be the process that
        downloads.
        """
        name, cache = self._default.backbone, self.settings.cache
        if self._is_default_loaded():
            return None
        download = backbones.progress(name, cache)
        if download is not None:
            return Preparing(
                what=f"Downloading {name}", done_bytes=download.done_bytes, total_bytes=download.total_bytes
            )
        if self._warm_up_error is not None:
            return None
        if name == STARTER and not (cache / STARTER_FOLDER).is_dir():
            return Preparing(what="Preparing the starter model (first start only)")
        return Preparing(what=f"Loading {name}")

    def close(self) -> None:
        """Refuse new work, and stop the threads."""
        self._closed.set()
        self.engine.close()
        self.previews.close()
        self.texts.close()
        self.decoding.close()
        self.requests.shutdown(wait=False, cancel_futures=True)

    def forget(self, model_id: str) -> None:
        """Drop a deleted model. Requests that hold it can finish."""
        self.engine.pool.forget(model_id)

    @contextmanager
    def hold(self, model: Subject, alpha: float | None) -> Iterator[HeldModel]:
        """Hold a model in memory, at α rounded to 0.01, or at the model's own α.

        Raises ModelNotFound, ModelUnavailable, UnknownBackbone, StillLoading, BackboneUnavailable,
        StorageUnavailable, BlobNotFound.
        """
        wait = self.engine.wait_seconds
        if isinstance(model, JobPreview):
            stock = WeightsKey(model.backbone, model.image_size)
            with self.engine.pool.acquire(stock, 0, wait_seconds=wait) as served:
                yield HeldModel(served, self.previews.get(model), model, model.id, model.backbone, 0.0)
        elif isinstance(model, str):
            name = self.stock_backbone(model)
            stock = WeightsKey(name, recipe(name).image_size)
            with self.engine.pool.acquire(stock, 0, wait_seconds=wait) as served:
                yield HeldModel(served, None, None, model, name, 0.0)
        else:
            alpha = model.alpha if alpha is None else round_alpha(alpha)
            with self.engine.pool.acquire(WeightsKey.of(model), alpha, wait_seconds=wait) as served:
                fitted = stored_calibration(model, alpha)
                yield HeldModel(served, None, model, model.id, model.backbone, alpha, fitted)

    def _is_default_loaded(self) -> bool:
        return self.engine.pool.has_stock(self._default.backbone, self._default.image_size)
