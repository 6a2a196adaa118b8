"""Networks at any α, lent out: backbones, deltas on top of them, and what they make together."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from core.clip.errors import CorruptWeights, UnknownBackbone
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.weights.files import Weights, load_weights
from core.clip.weights.manifest import read_manifest
from core.serving.pool.cache import WarmCache
from core.serving.pool.cache_stats import Key
from core.serving.pool.served_model import ServedModel, adapted_network, stock_model
from core.serving.pool.unavailable import ModelUnavailable, Unavailable
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import Model
from core.store.errors import BlobNotFound, ModelNotFound
from core.store.registry import models
from core.store.storage.blobs import Blobs


@dataclass(frozen=True)
class WeightsKey:
    """What a model's files are, whatever the model is called: two with the same are one in memory."""

    sha256: str
    backbone: str
    image_size: int | None

    @classmethod
    def of(cls, row: Model) -> "WeightsKey":
        return cls(row.sha256, row.backbone, row.image_size)

    @property
    def key(self) -> str:
        return f"{self.sha256}/{self.backbone}/{self.image_size}"

    def at(self, alpha: float) -> str:
        """The key of the network."""
        return f"{self.key}@{alpha!r}"


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

    def known(self, name: str) -> str:
        """The backbone's one spelling. Raises UnknownBackbone."""
        known = self._settings.known_backbone(name)
        if known is None:
            raise UnknownBackbone(
                f"There is no backbone {name!r} here. The operator lists backbones in CLIPCITE_BACKBONES."
            )
        return known

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

    def has_backbone(self, name: str, image_size: int | None) -> bool:
        return self.backbones.has(self._backbone_key(name, image_size))

    def warm_backbones(self) -> list[tuple[ServedModel, int]]:
        """Those in memory, with how many use them."""
        return self.backbones.values()

    @contextmanager
    def adapted(
        self, row: Model, alpha: float, *, wait_seconds: float | None, pin: bool = False
    ) -> Iterator[ServedModel]:
        """A model at α.

        Raises ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable, StillLoading.
        """
        if alpha == 0:
            with self.stock(row.backbone, row.image_size, wait_seconds=wait_seconds) as stock:
                yield stock
            return
        content = WeightsKey.of(row)
        with ExitStack() as held:
            network = self._network(held, row, content, alpha, wait_seconds, pin)
            # Used as well, so that it is not the first to go: another α is then made without the storage.
            self.warm.touch((DELTA, content))
            self.unavailable.forget(row.id)
            self._note(content, row)
            yield network

    @contextmanager
    def parts(self, row: Model) -> Iterator[tuple[Backbone, Weights]]:
        """A model without an α, loaded in this thread. Raises as `adapted`, but for StillLoading."""
        content = WeightsKey.of(row)
        with (
            self.stock(row.backbone, row.image_size, wait_seconds=None) as stock,
            self._weights(row, content, stock.backbone, []) as weights,
        ):
            self._note(content, row)
            yield stock.backbone, weights

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

    def models_of(self, content: WeightsKey) -> dict[str, str]:
        """Ids of the models that have it, as far as they were asked for, with their owners."""
        with self._lock:
            return dict(self._models.get(content, {}))

    def close(self) -> None:
        self.warm.close()
        self.backbones.close()
        self._builder.shutdown(wait=False, cancel_futures=True)

    def _network(
        self,
        held: ExitStack,
        row: Model,
        content: WeightsKey,
        alpha: float,
        wait_seconds: float | None,
        pin: bool,
    ) -> ServedModel:
        while True:
            tried: list[str] = []  # whose files were looked for
            leased = self.warm.acquire(
                (NETWORK, content, alpha),
                lambda tried=tried: self._build(row, content, alpha, tried),  # type: ignore[misc]
                wait_seconds=wait_seconds,
                expected_bytes=self._bytes.get((row.backbone, row.image_size), row.bytes),
                pin=pin,
            )
            try:
                network = held.enter_context(leased)
            except (ModelNotFound, ModelUnavailable):
                if tried:
                    raise
                # Those of another model with the same content, which we waited for.
            else:
                assert isinstance(network, ServedModel)
                return network

    def _build(self, row: Model, content: WeightsKey, alpha: float, tried: list[str]) -> ServedModel:
        with ExitStack() as held:
            stock = held.enter_context(self.stock(row.backbone, row.image_size, wait_seconds=None))
            with self._weights(row, content, stock.backbone, tried) as weights:
                built = self._builder.submit(
                    adapted_network, content.at(alpha), stock, weights, alpha
                ).result()
            self._bytes[row.backbone, row.image_size] = built.bytes
            if built.bytes > self.warm.budget_bytes:
                logger.warning(
                    "A model takes %d bytes, more than CLIPCITE_MODEL_CACHE_BYTES: it is built each time.",
                    built.bytes,
                )
            return replace(built, release=held.pop_all().close)

    @contextmanager
    def _weights(
        self, row: Model, content: WeightsKey, backbone: Backbone, tried: list[str]
    ) -> Iterator[Weights]:
        with self.warm.acquire(
            (DELTA, content),
            lambda: self._load_weights(row, backbone, tried),
            wait_seconds=None,
            expected_bytes=row.bytes,
        ) as weights:
            assert isinstance(weights, Weights)
            yield weights

    def _load_weights(self, row: Model, backbone: Backbone, tried: list[str]) -> Weights:
        tried.append(row.id)
        self.unavailable.check(row.id)
        try:
            manifest = read_manifest(self._blobs.get(row.manifest_key))
            if manifest.sha256 != row.sha256:
                raise CorruptWeights("Its manifest is of other weights than were published.")
            return load_weights(self._blobs.get(row.weights_key), manifest, backbone)
        except (CorruptWeights, BlobNotFound) as error:
            with self._database.read() as session:
                if not models.exists(session, row.id):  # deleted since we looked
                    raise ModelNotFound(row.id) from error
            raise self.unavailable.refuse(row.id, error) from error

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

    def _note(self, content: WeightsKey, row: Model) -> None:
        """Whose the content is; called while it is in use."""
        with self._lock:
            if row.id not in self._deleted:
                self._models.setdefault(content, {})[row.id] = row.owner
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
