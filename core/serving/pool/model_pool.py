"""Pool of models at any α: backbones, deltas, and the models built from both."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import cast
from weakref import WeakValueDictionary

import torch

from core.clip.errors import CorruptWeights
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.weights.files import Weights
from core.serving.pool.cache import WarmCache
from core.serving.pool.cache_stats import Key
from core.serving.pool.served_model import ServedModel, adapted_model, read_model, stock_model
from core.serving.pool.unavailable import ModelUnavailable, Unavailable
from core.serving.types import BackboneInfo, ResidentInfo, WeightsKey, WeightsSource
from core.settings import Settings
from core.store.db.session import Database
from core.store.errors import BlobNotFound, ModelNotFound
from core.store.registry import models
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
MAX_BACKBONES = 6
"""Maximum number of backbones in memory, apart from those that loaded models use."""
MAX_DELETED_IDS = 10_000
"""Deleted model ids to remember, because a deleted model may still be loading."""
MAX_OWNER_ENTRIES = 1_000
"""Weights with known owners, beyond which entries of evicted weights are removed."""
BACKBONE, DELTA, MODEL = "backbone", "delta", "model"


class ModelPool:
    """Caches of backbones, deltas and models at one α."""

    def __init__(
        self, settings: Settings, database: Database, blobs: Blobs, dtype: torch.dtype | None
    ) -> None:
        """Start empty.

        Args:
            dtype: autocast type of all models; None is fp32.
        """
        self._settings = settings
        self._dtype = dtype
        self._database = database
        self._blobs = blobs
        self.unavailable = Unavailable()
        self.backbones: WarmCache[ServedModel] = WarmCache(MAX_BACKBONES, lambda stock: 1)
        self.warm: WarmCache[ServedModel | Weights] = WarmCache(
            settings.model_cache_bytes, lambda value: value.bytes, on_drop=_release
        )
        self._lock = threading.Lock()
        # A model may still use an evicted backbone, which must not be loaded twice.
        self._living: WeakValueDictionary[tuple[str, int], Backbone] = WeakValueDictionary()
        self._own_sizes: dict[str, int] = {}
        """Default image sizes of the backbones loaded so far."""
        self._bytes: dict[tuple[str, int | None], int] = {}
        """Size of an adapted model, by backbone and image size."""
        self._models: dict[WeightsKey, dict[str, str]] = {}
        """Owner by model id, for requested models with these weights."""
        self._deleted: OrderedDict[str, None] = OrderedDict()
        # One model is built at a time, on all cores; files are read concurrently.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="builder")

    @contextmanager
    def stock(
        self, name: str, image_size: int | None, *, wait_seconds: float | None
    ) -> Iterator[ServedModel]:
        """Hold a pre-trained model, which every model on this backbone equals at α = 0.

        Raises StillLoading, BackboneUnavailable.
        """
        with self.backbones.acquire(
            self._backbone_key(name, image_size),
            lambda: self._load_stock(name, image_size),
            wait_seconds=wait_seconds,
            expected_bytes=1,
        ) as stock:
            yield stock

    @contextmanager
    def acquire(
        self, weights_key: WeightsKey, alpha: float, *, wait_seconds: float | None, pin: bool = False
    ) -> Iterator[ServedModel]:
        """Hold a model at α. At α = 0, or without stored weights, this is the pre-trained model.

        Raises ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable, StillLoading.
        """
        source = weights_key.source
        if source is None or alpha == 0:
            backbone = weights_key.backbone, weights_key.image_size
            with self.stock(*backbone, wait_seconds=wait_seconds) as stock:
                yield stock
            return
        with ExitStack() as held:
            model = self._model(held, weights_key, source, alpha, wait_seconds, pin)
            # Keep the delta recently used too: another α can then be built without the storage.
            self.warm.touch((DELTA, weights_key))
            self.unavailable.forget(source.model_id)
            self._record_owner(weights_key, source)
            yield model

    @contextmanager
    def stored(
        self, key: WeightsKey, source: WeightsSource, tried: list[str] | None = None
    ) -> Iterator[tuple[ServedModel, Weights]]:
        """Hold the pre-trained model and the stored weights of a model, loaded in this thread if needed.

        Args:
            tried: gets the id of the model whose files this call reads.

        Raises ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """
        with (
            self.stock(key.backbone, key.image_size, wait_seconds=None) as stock,
            self.warm.acquire(
                (DELTA, key),
                lambda: self._load_weights(key, source, stock.backbone, tried if tried is not None else []),
                wait_seconds=None,
                expected_bytes=source.bytes,
            ) as weights,
        ):
            assert isinstance(weights, Weights)
            yield stock, weights

    def forget(self, model_id: str) -> list[WeightsKey]:
        """Drop a deleted model. Return its weights, unless another model shares them.

        Weights in use are dropped by their last user.
        """
        self.unavailable.forget(model_id)
        with self._lock:
            self._deleted[model_id] = None
            while len(self._deleted) > MAX_DELETED_IDS:
                self._deleted.popitem(last=False)
            orphans = []
            for weights_key, models in list(self._models.items()):
                if models.pop(model_id, None) is not None and not models:
                    del self._models[weights_key]
                    orphans.append(weights_key)
        self.warm.forget(lambda key: key[1] in orphans)
        return orphans

    def backbone_infos(self) -> list[BackboneInfo]:
        """Return the backbones in memory."""
        return [
            BackboneInfo(
                name=(backbone := stock.backbone).name,
                image_size=backbone.image_size,
                own_size=self._own_sizes.get(backbone.name) == backbone.image_size,
                users=users,
            )
            for stock, users in self.backbones.values()
        ]

    def resident_infos(self) -> list[ResidentInfo]:
        """Return models and deltas in memory, the least recently used first."""
        infos = []
        for held in self.warm.held():
            _, key, *alpha = cast(tuple[str, WeightsKey, *tuple[float, ...]], held.key)
            with self._lock:
                owners = dict(self._models.get(key, {}))
            infos.append(
                ResidentInfo(key, alpha[0] if alpha else None, held.bytes, held.users, held.pinned, owners)
            )
        return infos

    def close(self) -> None:
        """Stop loading."""
        self.warm.close()
        self.backbones.close()
        self._builder.shutdown(wait=False, cancel_futures=True)

    def _model(
        self,
        held: ExitStack,
        key: WeightsKey,
        source: WeightsSource,
        alpha: float,
        wait_seconds: float | None,
        pin: bool,
    ) -> ServedModel:
        while True:
            tried: list[str] = []  # models whose files this call has read
            acquired = self.warm.acquire(
                (MODEL, key, alpha),
                lambda tried=tried: self._build(key, source, alpha, tried),  # type: ignore[misc]
                wait_seconds=wait_seconds,
                expected_bytes=self._bytes.get((key.backbone, key.image_size), source.bytes),
                pin=pin,
            )
            try:
                model = held.enter_context(acquired)
            except (ModelNotFound, ModelUnavailable):
                if tried:
                    raise
                # A concurrent load for another model with the same weights failed; try our own files.
            else:
                assert isinstance(model, ServedModel)
                return model

    def _build(self, key: WeightsKey, source: WeightsSource, alpha: float, tried: list[str]) -> ServedModel:
        with ExitStack() as held:
            held.enter_context(self.stock(key.backbone, key.image_size, wait_seconds=None))
            with self.stored(key, source, tried) as (stock, weights):
                built = self._builder.submit(adapted_model, key.at(alpha), stock, weights, alpha).result()
            self._bytes[key.backbone, key.image_size] = built.bytes
            if built.bytes > self.warm.budget_bytes:
                logger.warning(
                    "A model takes %d bytes, more than CLIPCITE_MODEL_CACHE_BYTES, and is rebuilt for each "
                    "request. Raise the limit.",
                    built.bytes,
                )
            return replace(built, release=held.pop_all().close)

    def _load_weights(
        self, key: WeightsKey, source: WeightsSource, backbone: Backbone, tried: list[str]
    ) -> Weights:
        tried.append(source.model_id)
        self.unavailable.check(source.model_id)
        try:
            return read_model(self._blobs, key, backbone)
        except (CorruptWeights, BlobNotFound) as error:
            with self._database.read() as session:
                if not models.exists(session, source.model_id):  # deleted since the request began
                    raise ModelNotFound(source.model_id) from error
            raise self.unavailable.refuse(source.model_id, error) from error

    def _backbone_key(self, name: str, image_size: int | None) -> Key:
        """Return one key for a backbone at its default image size, whether the size is given or None."""
        return BACKBONE, name, None if image_size == self._own_sizes.get(name) else image_size

    def _load_stock(self, name: str, image_size: int | None) -> ServedModel:
        size = image_size or self._own_sizes.get(name)
        backbone = None if size is None else self._living.get((name, size))
        if backbone is None:
            backbone = load_backbone(
                name,
                cache=self._settings.cache,
                image_size=image_size,
                device=self._settings.device,
                tf32=self._settings.serving_precision == "tf32",
            )
        with self._lock:
            if image_size is None:
                self._own_sizes[name] = backbone.image_size
            backbone = self._living.setdefault((name, backbone.image_size), backbone)
        return stock_model(f"{name}/{backbone.image_size}", backbone, self._dtype)

    def _record_owner(self, weights_key: WeightsKey, source: WeightsSource) -> None:
        """Record the owner of weights in use."""
        with self._lock:
            if source.model_id not in self._deleted:
                self._models.setdefault(weights_key, {})[source.model_id] = source.owner
            orphan = weights_key not in self._models
            prune = len(self._models) > MAX_OWNER_ENTRIES
        if orphan:  # deleted while it was loaded
            self.warm.forget(lambda key: key[1] == weights_key)
        if prune:
            warm = {held.key[1] for held in self.warm.held()}
            with self._lock:
                self._models = {key: ids for key, ids in self._models.items() if key in warm}


def _release(value: ServedModel | Weights) -> None:
    if isinstance(value, ServedModel):
        value.release()
