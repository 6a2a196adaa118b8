"""Micro-batching: a batch is split into smaller parts until it fits into device memory."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch

from core.clip.errors import OutOfMemory
from core.clip.models.device import is_out_of_memory
from core.clip.training.progress import Reporter

T = TypeVar("T")


def reserve_gpu_memory(device: torch.device, reserve_bytes: int) -> None:
    """Limit this process's GPU memory, so that `reserve_bytes` stay free for other processes.

    Allocations beyond the limit fail as out of memory, and `MicroBatcher` handles the error. On a CPU this
    has no effect.
    """
    if device.type == "cuda" and reserve_bytes:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(max(1 - reserve_bytes / total, 0.0), device)


class MicroBatcher:
    """Current micro-batch size. It is permanently halved whenever memory runs out.

    A smaller micro-batch makes the training slower, but does not change its gradients.
    """

    def __init__(self, micro_batch_size: int | None, reporter: Reporter) -> None:
        self.micro_batch_size = micro_batch_size
        self._reporter = reporter

    def fit(self, compute: Callable[[int | None], T], batch: int) -> T:
        """Call `compute(micro_batch_size)`, and retry with half the size while memory runs out.

        Args:
            compute: function of the micro-batch size, without side effects when it fails.
            batch: number of images in the batch.

        Raises:
            OutOfMemory: the memory is too small even for one image at a time.
        """
        while True:
            try:
                return compute(self.micro_batch_size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                tried = min(self.micro_batch_size or batch, batch)
                if tried == 1:
                    raise OutOfMemory(
                        "The device ran out of memory with one image at a time. Use a smaller image_size "
                        f"or batch_size (now {batch}), or a device with more free memory."
                    ) from error
            # Outside the except block: the error's traceback keeps the tensors alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.micro_batch_size = math.ceil(tried / 2)
            self._reporter.warn(
                "micro_batch_reduced",
                f"Device memory was too small for {tried} images at a time. The training continues with "
                f"micro_batch_size {self.micro_batch_size}, slower but with the same result. Next time set "
                f"micro_batch_size to {self.micro_batch_size}, or use a smaller image_size.",
            )
