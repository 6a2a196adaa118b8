"""The engine's interface: models at any α, and features of images and text.

Only keys, CPU tensors and plain dataclasses cross the interface, so that an engine can be another process.
"""

import itertools
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from core.admission import ServerBusy
from core.clip.models.device import find_device, in_parts, is_out_of_memory, mixed_precision
from core.clip.models.features import CPU_IMAGE_BATCH_SIZE, IMAGE_BATCH_SIZE
from core.serving.batching.batch import QueueKey
from core.serving.batching.batcher import Batcher, Pending
from core.serving.pool.model_pool import DELTA, MAX_BACKBONES, MODEL, ModelPool
from core.serving.pool.served_model import ServedModel
from core.serving.types import EngineStats, Handle, WeightsKey
from core.settings import Settings
from core.store.db.session import Database
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
MAX_BATCH_ROWS = {
    "cpu": {"images": CPU_IMAGE_BATCH_SIZE, "prompts": 32},
    "cuda": {"images": IMAGE_BATCH_SIZE, "prompts": 256},
}
"""Maximum rows of a batch. On a CPU, larger prompt batches would delay other requests."""
MAX_WORKERS = 4
"""Maximum number of concurrent batches on a CPU, each of which reads all weights of its model."""


class Engine(Protocol):
    """Loads models, caches them and computes features. Thread-safe."""

    def acquire(
        self, weights_key: WeightsKey, alpha: float, *, wait_seconds: float | None, pin: bool = False
    ) -> AbstractContextManager[Handle]:
        """Hold a model at α in memory. At α = 0, this is the pre-trained model.

        Args:
            wait_seconds: maximum wait for loading, and for the turn of each call with the handle. None
                loads in this thread, and waits without limit.
            pin: held for a long time, so that other models don't wait for this memory.

        Raises:
            StillLoading: loading takes longer, and goes on.
            ModelNotFound, ModelUnavailable, BackboneUnavailable, StorageUnavailable.
        """

    def expect_images(self, handle: Handle) -> AbstractContextManager[None]:
        """Announce images that are being decoded, so that a partial batch may wait a moment for them.

        The announcement ends with the call for the last images, or with the context.
        """

    def encode_images(self, handle: Handle, images: Tensor, *, more: bool = False) -> Tensor:
        """Return image features, float32 [N, D], normalised.

        Args:
            images: uint8 [N, S, S, 3] from `Pixels.fit`, N > 0.
            more: further images follow in the same context.

        Raises:
            ServerBusy: the turn did not come within the handle's `wait_seconds`.
        """

    def encode_text(self, handle: Handle, tokens: Tensor) -> Tensor:
        """Return text features, float32 [C, D], normalised.

        Args:
            tokens: padded token ids, int64 [C, L], C > 0.

        Raises ServerBusy.
        """

    def forget(self, model_id: str) -> list[WeightsKey]:
        """Drop a deleted model once it is unused. Return the weights that no other model shares."""

    def stats(self) -> EngineStats:
        """Return memory and work at this moment."""

    def close(self) -> None:
        """Refuse further work, and end waiting calls with ServerBusy."""


class LocalEngine:
    """An engine in this process: a pool of models, and a batcher across requests."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        device = find_device(settings.device)
        self.device = device.type
        self.precision = settings.serving_precision
        self.pool = ModelPool(settings, database, blobs, mixed_precision(self.precision, device))
        if self.precision != "fp32":
            logger.warning(
                "CLIPCITE_SERVING_PRECISION is %s: some answers differ from those in fp32, the precision of "
                "evaluations and calibrations.",
                self.precision,
            )
        workers = min(MAX_WORKERS, torch.get_num_threads()) if self.device == "cpu" else 1
        self.batcher = Batcher(MAX_BATCH_ROWS[self.device], workers, self._encode)
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._held: dict[str, dict[int, ServedModel]] = {}
        """Models by key, then by handle id."""
        self._pending: dict[int, Pending] = {}
        """Announcements by handle id."""

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
                tokenizer=model.backbone.tokenizer,
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
        item = self.batcher.submit((handle.key, "images"), images, last_of)
        return self.batcher.wait(item, handle.wait_seconds)

    def encode_text(self, handle: Handle, tokens: Tensor) -> Tensor:
        item = self.batcher.submit((handle.key, "prompts"), tokens)
        return self.batcher.wait(item, handle.wait_seconds)

    def forget(self, model_id: str) -> list[WeightsKey]:
        return self.pool.forget(model_id)

    def stats(self) -> EngineStats:
        warm = self.pool.warm
        return EngineStats(
            device=self.device,
            precision=self.precision,
            threads=self.batcher.threads,
            max_rows=self.batcher.largest,
            batches=self.batcher.counts(),
            max_backbones=MAX_BACKBONES,
            backbones=self.pool.backbone_infos(),
            budget_bytes=warm.budget_bytes,
            bytes=warm.bytes,
            models=warm.counts(MODEL),
            deltas=warm.counts(DELTA),
            resident=self.pool.resident_infos(),
            unavailable=self.pool.unavailable.count(),
        )

    def close(self) -> None:
        self.batcher.close()
        self.pool.close()

    def _encode(self, queue: QueueKey, rows: Tensor) -> Tensor:
        """Compute a batch by any of the equal models with this key."""
        key, kind = queue
        with self._lock:
            model = next(iter(self._held[key].values()))
        encode = model.encode_images if kind == "images" else model.encode_tokens
        try:
            return in_parts(encode, rows)  # other processes use a GPU too
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ServerBusy("The device has too little free memory. Try again in a moment.") from error
