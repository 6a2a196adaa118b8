"""Networks at any α, lent out: backbones, deltas on top of them, and what they make together."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import cast
from weakref import WeakValueDictionary

from core.clip.errors import CorruptWeights
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.weights.files import Weights
from core.serving.pool.cache import WarmCache
from core.serving.pool.cache_stats import Key
from core.serving.pool.served_model import ServedModel, adapted_network, read_model, stock_model
from core.serving.pool.unavailable import ModelUnavailable, Unavailable
from core.serving.types import BackboneInfo, ResidentInfo, WeightsKey, WeightsSource
from core.settings import Settings
from core.store.db.session import Database
from core.store.errors import BlobNotFound, ModelNotFound
from core.store.registry import models
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
BACKBONES = 6
"""So many are kept; of those that warm models stand on, all."""
DELETED = 10_000
"""Ids that are remembered: of models that may just be loading."""
UNTIDY = 1_000
BACKBONE, DELTA, NETWORK = "backbone", "delta", "network"


class ModelPool:
    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self.unavailable = Unavailable()
        self.backbones: WarmCache[ServedModel] = WarmCache(BACKBONES, lambda stock: 1, waits_for_room=False)
        self.warm: WarmCache[ServedModel | Weights] = WarmCache(
            settings.model_cache_bytes, lambda value: value.bytes, on_drop=_release
        )
        self._lock = threading.Lock()
        # A backbone that was dropped may live on in the hands of a network: it is not loaded twice.
        self._living: WeakValueDictionary[tuple[str, int], Backbone] = WeakValueDictionary()
        self._own_sizes: dict[str, int] = {}
        """Image sizes of the backbones that were loaded without one."""
        self._bytes: dict[tuple[str, int | None], int] = {}
        """What an adapted network costs on this backbone."""
        self._models: dict[WeightsKey, dict[str, str]] = {}
        """Which models, of which owner, were asked for and have this content."""
        self._deleted: OrderedDict[str, None] = OrderedDict()
        # One network is put together at a time, by all cores; reading files is another thing.
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="builder")

    @contextmanager
    def stock(
        self, name: str, image_size: int | None, *, wait_seconds: float | None
    ) -> Iterator[ServedModel]:
        """A backbone as it is, which every model on it is at α = 0.

        Raises StillLoading, BackboneUnavailable.
        """
        with self.backbones.acquire(
            self._backbone_key(name, image_size),
            lambda: self._load_stock(name, image_size),
            wait_seconds=wait_seconds,
        ) as stock:
            yield stock

    @contextmanager
    def acquire(
        self, weights_key: WeightsKey, alpha: float, *, wait_seconds: float | None, pin: bool = False
    ) -> Iterator[ServedModel]:
        """A model at α. At α = 0, and without stored weights, it is the backbone as it is.

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
            # Used as well, so that it is not the first to go: another α is then made without the storage.
            self.warm.touch((DELTA, weights_key))
            self.unavailable.forget(source.model_id)
            self._note(weights_key, source)
            yield model

    def forget(self, model_id: str) -> list[WeightsKey]:
        """The model was deleted. What no other model shares goes as soon as nobody uses it: the contents."""
        self.unavailable.forget(model_id)
        with self._lock:
            self._deleted[model_id] = None
            while len(self._deleted) > DELETED:
                self._deleted.popitem(last=False)
            orphans = []
            for content, models in list(self._models.items()):
                if models.pop(model_id, None) is not None and not models:
                    del self._models[content]
                    orphans.append(content)
        self.warm.forget(lambda key: key[1] in orphans)
        return orphans

    def backbone_infos(self) -> list[BackboneInfo]:
        return [
            BackboneInfo(
                name=(backbone := stock.backbone).name,
                image_size=backbone.image_size,
                own_size=self._own_sizes.get(backbone.name) == backbone.image_size,
                precision=stock.precision,
                users=users,
            )
            for stock, users in self.backbones.values()
        ]

    def resident_infos(self) -> list[ResidentInfo]:
        """Least recently used first."""
        found = []
        for held in self.warm.held():
            _, key, *alpha = cast(tuple[str, WeightsKey, *tuple[float, ...]], held.key)
            with self._lock:
                owners = dict(self._models.get(key, {}))
            found.append(
                ResidentInfo(key, alpha[0] if alpha else None, held.bytes, held.users, held.pinned, owners)
            )
        return found

    def close(self) -> None:
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
            tried: list[str] = []  # whose files were looked for
            leased = self.warm.acquire(
                (NETWORK, key, alpha),
                lambda tried=tried: self._build(key, source, alpha, tried),  # type: ignore[misc]
                wait_seconds=wait_seconds,
                expected_bytes=self._bytes.get((key.backbone, key.image_size), source.bytes),
                pin=pin,
            )
            try:
                model = held.enter_context(leased)
            except (ModelNotFound, ModelUnavailable):
                if tried:
                    raise
                # Those of another model with the same content, which we waited for.
            else:
                assert isinstance(model, ServedModel)
                return model

    def _build(self, key: WeightsKey, source: WeightsSource, alpha: float, tried: list[str]) -> ServedModel:
        with ExitStack() as held:
            stock = held.enter_context(self.stock(key.backbone, key.image_size, wait_seconds=None))
            leased = self.warm.acquire(
                (DELTA, key),
                lambda: self._load_weights(key, source, stock.backbone, tried),
                wait_seconds=None,
                expected_bytes=source.bytes,
            )
            with leased as weights:
                assert isinstance(weights, Weights)
                built = self._builder.submit(adapted_network, key.at(alpha), stock, weights, alpha).result()
            self._bytes[key.backbone, key.image_size] = built.bytes
            if built.bytes > self.warm.budget_bytes:
                logger.warning(
                    "A model takes %d bytes, more than CLIPCITE_MODEL_CACHE_BYTES: it is built each time.",
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
                if not models.exists(session, source.model_id):  # deleted since we looked
                    raise ModelNotFound(source.model_id) from error
            raise self.unavailable.refuse(source.model_id, error) from error

    def _backbone_key(self, name: str, image_size: int | None) -> Key:
        """A model names the size, a recipe may leave it to the network: one and the same."""
        return BACKBONE, name, None if image_size == self._own_sizes.get(name) else image_size

    def _load_stock(self, name: str, image_size: int | None) -> ServedModel:
        size = image_size or self._own_sizes.get(name)
        backbone = None if size is None else self._living.get((name, size))
        if backbone is None:
            backbone = load_backbone(
                name, cache=self._settings.cache, image_size=image_size, device=self._settings.device
            )
        with self._lock:
            if image_size is None:
                self._own_sizes[name] = backbone.image_size
            backbone = self._living.setdefault((name, backbone.image_size), backbone)
        return stock_model(f"{name}/{backbone.image_size}", backbone)

    def _note(self, content: WeightsKey, source: WeightsSource) -> None:
        """Whose the content is; called while it is in use."""
        with self._lock:
            if source.model_id not in self._deleted:
                self._models.setdefault(content, {})[source.model_id] = source.owner
            orphan = content not in self._models
            tidy = len(self._models) > UNTIDY
        if orphan:  # deleted while it was loaded
            self.warm.forget(lambda key: key[1] == content)
        if tidy:
            warm = {held.key[1] for held in self.warm.held()}
            with self._lock:
                self._models = {known: ids for known, ids in self._models.items() if known in warm}


def _release(value: ServedModel | Weights) -> None:
    if isinstance(value, ServedModel):
        value.release()
