"""The seam of the engine: models at any α, and their features of images and text.

Only keys, arrays and plain dataclasses cross it, so that an engine may be another process. An array is a
tensor on the CPU.
"""

import itertools
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from core.clip.models.backbone import find_device
from core.clip.models.features import CPU_IMAGE_BATCH_SIZE, IMAGE_BATCH_SIZE
from core.serving.batching.batch import QueueKey
from core.serving.batching.batcher import Batcher, Pending
from core.serving.pool.model_pool import BACKBONES, DELTA, NETWORK, ModelPool
from core.serving.pool.served_model import ServedModel
from core.serving.types import EngineStats, Handle, WeightsKey
from core.settings import Settings
from core.store.db.session import Database
from core.store.storage.blobs import Blobs

MAX_BATCH_ROWS = {
    "cpu": {"images": CPU_IMAGE_BATCH_SIZE, "prompts": 32},
    "cuda": {"images": IMAGE_BATCH_SIZE, "prompts": 256},
}
"""Rows of a batch. More prompts would keep others waiting on a CPU."""
MAX_WORKERS = 4
"""Batches computed at a time on a CPU: each reads all of the model's weights."""


class Engine(Protocol):
    """Loads models, keeps the recently used ones, and computes features. Safe for many threads."""

    def acquire(
        self, weights_key: WeightsKey, alpha: float, *, wait_seconds: float | None, pin: bool = False
    ) -> AbstractContextManager[Handle]:
        """A model at α, in memory until the context is left. At α = 0 it is its backbone as it is.

        Args:
            wait_seconds: maximum wait for the loading, and of each call with the handle for its turn. None
                loads in this thread, and waits for ever.
            pin: held for good, which keeps others from waiting for this memory.

        Raises:
            StillLoading: the loading goes on meanwhile.
            ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """

    def expect_images(self, handle: Handle) -> AbstractContextManager[None]:
        """Images are being decoded: a batch that is not full may wait a moment for them. The expectation
        ends with the context, or with the call that brings the last ones."""

    def encode_images(self, handle: Handle, images: Tensor, *, more: bool = False) -> Tensor:
        """uint8 [N, S, S, 3], as `Pixels.fit` makes them, to float32 [N, D], normalised. N > 0.

        Args:
            more: another call of the same context brings further images.

        Raises:
            ServerBusy: the turn did not come within the handle's `wait_seconds`.
        """

    def encode_text(self, handle: Handle, tokens: Tensor) -> Tensor:
        """Token ids int64 [C, L], padded, to float32 [C, D], normalised. C > 0. Raises ServerBusy."""

    def forget(self, model_id: str) -> list[WeightsKey]:
        """Drop a deleted model, as soon as nobody holds it. Return the contents that no other model has."""

    def stats(self) -> EngineStats:
        """Memory and work now."""

    def close(self) -> None:
        """Refuse further work, and end what waits with ServerBusy."""


class LocalEngine:
    """The engine in this process: a pool of models, and a batcher across requests."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self.pool = ModelPool(settings, database, blobs)
        self.device = find_device(settings.device).type
        workers = min(MAX_WORKERS, torch.get_num_threads()) if self.device == "cpu" else 1
        self.batcher = Batcher(MAX_BATCH_ROWS[self.device], workers, self._encode)
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._held: dict[str, dict[int, ServedModel]] = {}
        """By the model's key, then by handle."""
        self._pending: dict[int, Pending] = {}
        """By handle."""

    @contextmanager
    def acquire(
        self, weights_key: WeightsKey, alpha: float, *, wait_seconds: float | None, pin: bool = False
    ) -> Iterator[Handle]:
        with self.pool.acquire(weights_key, alpha, wait_seconds=wait_seconds, pin=pin) as model:
            handle = Handle(
                id=next(self._ids),
                key=model.key,
                wait_seconds=wait_seconds,
                backbone=model.backbone.name,
                image_size=model.backbone.image_size,
                preprocess=model.preprocess,
                logit_scale=model.backbone.logit_scale,
                shots=model.shots,
                max_images=self.batcher.largest["images"],
            )
            with self._lock:
                self._held.setdefault(handle.key, {})[handle.id] = model
            try:
                yield handle
            finally:
                with self._lock:
                    del self._held[handle.key][handle.id]
                    if not self._held[handle.key]:
                        del self._held[handle.key]

    @contextmanager
    def expect_images(self, handle: Handle) -> Iterator[None]:
        with self.batcher.pending((handle.key, "images")) as self._pending[handle.id]:
            try:
                yield
            finally:
                del self._pending[handle.id]

    def encode_images(self, handle: Handle, images: Tensor, *, more: bool = False) -> Tensor:
        last_of = None if more else self._pending.get(handle.id)
        work = self.batcher.submit((handle.key, "images"), images, last_of)
        return self.batcher.wait(work, handle.wait_seconds)

    def encode_text(self, handle: Handle, tokens: Tensor) -> Tensor:
        work = self.batcher.submit((handle.key, "prompts"), tokens)
        return self.batcher.wait(work, handle.wait_seconds)

    def forget(self, model_id: str) -> list[WeightsKey]:
        return self.pool.forget(model_id)

    def stats(self) -> EngineStats:
        warm = self.pool.warm
        return EngineStats(
            device=self.device,
            threads=self.batcher.threads,
            max_rows=self.batcher.largest,
            batches=self.batcher.counts(),
            max_backbones=BACKBONES,
            backbones=self.pool.backbone_infos(),
            budget_bytes=warm.budget_bytes,
            bytes=warm.bytes,
            models=warm.counts(NETWORK),
            deltas=warm.counts(DELTA),
            resident=self.pool.resident_infos(),
            unavailable=self.pool.unavailable.count(),
        )

    def close(self) -> None:
        self.batcher.close()
        self.pool.close()

    def _encode(self, lane: QueueKey, rows: Tensor) -> Tensor:
        """Compute a batch by any of the equal models that are held under this key."""
        key, kind = lane
        with self._lock:
            model = next(iter(self._held[key].values()))
        return model.encode_images(rows) if kind == "images" else model.encode_tokens(rows)
