"""Pool of models at any α: backbones, deltas, and models built from them."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from api.serving.pool.cache import Key, WarmCache
from api.serving.pool.served_model import ServedModel, adapted_model, stock_model
from api.serving.types import WeightsKey
from core.clip.errors import CorruptWeights
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.weights.files import Weights, load_weights
from core.clip.weights.manifest import read_manifest
from core.errors import ExpectedError
from core.settings import Settings
from core.store.db.session import Database
from core.store.errors import BlobNotFound, ModelNotFound
from core.store.registry import models
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
MAX_BACKBONES = 6
"""Maximum number of backbones in memory. Backbones that loaded models use do not count."""
BACKBONE, DELTA, MODEL = "backbone", "delta", "model"


class ModelUnavailable(ExpectedError):
    """The files of a model are missing or damaged. Other models are not affected."""

    code = "model_unavailable"
    status = 503
    retry_after = 30


class ModelPool:
    """Caches of backbones, of deltas, and of models at an α."""

    def __init__(
        self, settings: Settings, database: Database, blobs: Blobs, dtype: torch.dtype | None
    ) -> None:
        """Create an empty pool.

        Args:
            dtype: autocast type of all models. None: fp32.
        """
        self._settings = settings
        self._dtype = dtype
        self._database = database
        self._blobs = blobs
        self.backbones: WarmCache[ServedModel] = WarmCache(MAX_BACKBONES, lambda stock: 1)
        self.warm: WarmCache[ServedModel | Weights] = WarmCache(
            settings.model_cache_bytes, lambda value: value.bytes, on_drop=_release
        )
        self.unavailable = 0
        """Number of loads that failed because files were missing or damaged."""
        self._lock = threading.Lock()
        self._own_sizes: dict[str, int] = {}
        """Default image sizes of the backbones loaded so far."""
        self._bytes: dict[tuple[str, int | None], int] = {}
        """Size of an adapted model, by backbone and image size."""
        # One model is built at a time, on all cores. Files are read concurrently.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="builder")

    @contextmanager
    def stock(
        self, name: str, image_size: int | None, *, wait_seconds: float | None
    ) -> Iterator[ServedModel]:
        """Hold a pre-trained model in memory. Every model on this backbone equals it at α = 0.

        Raises StillLoading, BackboneUnavailable.
        """
        with self.backbones.acquire(
            self._backbone_key(name, image_size),
            lambda: self._load_stock(name, image_size),
            wait_seconds=wait_seconds,
            expected_bytes=1,
        ) as stock:
            yield stock

    def has_stock(self, name: str, image_size: int | None) -> bool:
        """Return whether a pre-trained model is in memory."""
        return self.backbones.has(self._backbone_key(name, image_size))

    @contextmanager
    def acquire(
        self, weights_key: WeightsKey, alpha: float, *, wait_seconds: float | None
    ) -> Iterator[ServedModel]:
        """Hold a model at α in memory. At α = 0, or without stored weights, this is the pre-trained model.

        Args:
            wait_seconds: maximum wait for loading. None: load in this thread, without limit.

        Raises:
            StillLoading: loading takes longer. It continues.
            ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """
        if not weights_key.model_id or alpha == 0:
            with self.stock(weights_key.backbone, weights_key.image_size, wait_seconds=wait_seconds) as stock:
                yield stock
            return
        with self.warm.acquire(
            (MODEL, weights_key, alpha),
            lambda: self._build(weights_key, alpha),
            wait_seconds=wait_seconds,
            expected_bytes=self._bytes.get((weights_key.backbone, weights_key.image_size), weights_key.bytes),
        ) as model:
            assert isinstance(model, ServedModel)
            yield model

    @contextmanager
    def stored(self, key: WeightsKey) -> Iterator[tuple[ServedModel, Weights]]:
        """Hold a model's pre-trained model and its stored weights. Load them in this thread if needed.

        Raises ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """
        with (
            self.stock(key.backbone, key.image_size, wait_seconds=None) as stock,
            self.warm.acquire(
                (DELTA, key),
                lambda: self._load_weights(key, stock.backbone),
                wait_seconds=None,
                expected_bytes=key.bytes,
            ) as weights,
        ):
            assert isinstance(weights, Weights)
            yield stock, weights

    def forget(self, model_id: str) -> None:
        """Drop a deleted model. The last user drops weights in use."""
        self.warm.forget(lambda key: isinstance(key[1], WeightsKey) and key[1].model_id == model_id)

    def close(self) -> None:
        """Stop loading."""
        self.warm.close()
        self.backbones.close()
        self._builder.shutdown(wait=False, cancel_futures=True)

    def _build(self, key: WeightsKey, alpha: float) -> ServedModel:
        with ExitStack() as held:
            held.enter_context(self.stock(key.backbone, key.image_size, wait_seconds=None))
            with self.stored(key) as (stock, weights):
                built = self._builder.submit(adapted_model, key.at(alpha), stock, weights, alpha).result()
            self._bytes[key.backbone, key.image_size] = built.bytes
            if built.bytes > self.warm.budget_bytes:
                logger.warning(
                    "A model takes %d bytes, more than CLIPCITE_MODEL_CACHE_BYTES, and is rebuilt for each "
                    "request. Raise the limit.",
                    built.bytes,
                )
            return replace(built, release=held.pop_all().close)

    def _load_weights(self, key: WeightsKey, backbone: Backbone) -> Weights:
        try:
            manifest = read_manifest(self._blobs.get(key.manifest))
            if manifest.sha256 != key.sha256:
                raise CorruptWeights("The manifest does not match the weights.")
            return load_weights(self._blobs.get(key.weights), manifest, backbone)
        except (CorruptWeights, BlobNotFound) as error:
            with self._database.read() as session:
                if not models.exists(session, key.model_id):  # deleted since the request began
                    raise ModelNotFound(key.model_id) from error
            with self._lock:
                self.unavailable += 1
            logger.error("%s can't be used, %s: %s", key.model_id, error.code, error)
            raise ModelUnavailable(
                f"The model {key.model_id} can't be used: {error} The other models are not affected. "
                "Restore its files, or delete the model and train it again."
            ) from error

    def _backbone_key(self, name: str, image_size: int | None) -> Key:
        """Return the key of a backbone. Its default image size and None give the same key."""
        return BACKBONE, name, None if image_size == self._own_sizes.get(name) else image_size

    def _load_stock(self, name: str, image_size: int | None) -> ServedModel:
        backbone = load_backbone(
            name,
            cache=self._settings.cache,
            image_size=image_size,
            device=self._settings.device,
            tf32=self._settings.serving_precision == "tf32",
        )
        if image_size is None:
            self._own_sizes[name] = backbone.image_size
        return stock_model(f"{name}/{backbone.image_size}", backbone, self._dtype)


def _release(value: ServedModel | Weights) -> None:
    if isinstance(value, ServedModel):
        value.release()
