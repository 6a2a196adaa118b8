"""Models at any α, and features of images and text, computed in batches across requests."""

import logging
from typing import cast

import torch
from torch import Tensor

from api.serving.batching.batch import QueueKey
from api.serving.batching.batcher import Batcher
from api.serving.pool.model_pool import ModelPool
from api.serving.pool.served_model import ServedModel
from core.admission import ServerBusy
from core.clip.models.device import find_device, in_parts, is_out_of_memory, mixed_precision
from core.clip.models.features import CPU_IMAGE_BATCH_SIZE, IMAGE_BATCH_SIZE, batch_rows
from core.settings import Settings
from core.store.db.session import Database
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
MAX_BATCH_ROWS = {
    "cpu": {"images": CPU_IMAGE_BATCH_SIZE, "prompts": 32},
    "cuda": {"images": IMAGE_BATCH_SIZE, "prompts": 256},
}
"""Maximum number of rows per batch, fewer for large images and long prompts. On a CPU, larger batches of
prompts would delay other requests."""
MAX_WORKERS = 4
"""Maximum number of concurrent batches on a CPU. Each reads all weights of its model."""


class Engine:
    """A pool of models, and a batcher across requests. Thread-safe."""

    wait_seconds: float = 10.0
    """Maximum time that a request waits for a model, and for its rows to start while others start."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        device = find_device(settings.device)
        self.device = device.type
        self.precision = settings.serving_precision
        self.pool = ModelPool(settings, database, blobs, mixed_precision(self.precision, device))
        if self.precision != "fp32":
            logger.warning(
                "CLIPCITE_SERVING_PRECISION is %s: some results differ from fp32, the precision of "
                "evaluations and calibrations.",
                self.precision,
            )
        workers = min(MAX_WORKERS, torch.get_num_threads()) if self.device == "cpu" else 1
        self.batcher = Batcher(MAX_BATCH_ROWS[self.device], workers, _encode)

    def max_images(self, model: ServedModel) -> int:
        """Return the maximum number of images per batch. A call may have more."""
        return batch_rows(self.batcher.largest["images"], model.backbone.image_size**2)

    def encode_images(self, model: ServedModel, images: Tensor, *, wait_seconds: float | None) -> Tensor:
        """Return image features, float32 [N, D], normalised.

        Args:
            model: acquired model, held until the call returns.
            images: uint8 [N, S, S, 3] from `Pixels.fit`, N > 0.
            wait_seconds: maximum time until the first row starts, while others start. None: no limit.

        Raises ServerBusy.
        """
        return self.batcher.wait(self.batcher.submit((model, "images"), images), wait_seconds)

    def encode_text(self, model: ServedModel, tokens: Tensor, *, wait_seconds: float | None) -> Tensor:
        """Return text features, float32 [C, D], normalised.

        Args:
            tokens: padded token ids, int64 [C, L], C > 0.

        Raises ServerBusy.
        """
        rows = model.trimmed(tokens)
        return self.batcher.wait(self.batcher.submit((model, "prompts"), rows), wait_seconds)

    def close(self) -> None:
        """Refuse new calls, and end waiting ones with ServerBusy."""
        self.batcher.close()
        self.pool.close()


def _encode(queue: QueueKey, rows: Tensor) -> Tensor:
    model, kind = cast(ServedModel, queue[0]), queue[1]
    try:
        # Other processes may use the GPU too.
        return in_parts(model.encode_images if kind == "images" else model.encode_tokens, rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ServerBusy("The device has too little free memory. Try again in a moment.") from error
