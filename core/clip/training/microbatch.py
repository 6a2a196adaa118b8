"""A step of the training in the memory that there is: the batch in ever smaller parts until it fits."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch

from core.clip.errors import OutOfMemory
from core.clip.training.progress import Reporter

T = TypeVar("T")
# Besides torch.OutOfMemoryError: what CPUs and the libraries of a GPU say.
_SIGNS = (
    "can't allocate memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def reserve_gpu_memory(device: torch.device, reserve_bytes: int) -> None:
    """From now on this process takes no more of the GPU than leaves so many bytes for others: what would
    exceed that is out of memory, which `MicroBatcher` knows how to meet. Of a CPU nothing is reserved."""
    if device.type == "cuda" and reserve_bytes:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_fraction(reserve_bytes, total), device)


def memory_fraction(reserve_bytes: int, total_bytes: int) -> float:
    """Of the memory, from 0 to 1, when the reserve is taken off it."""
    return min(max(1 - reserve_bytes / total_bytes, 0.0), 1.0)


class MicroBatcher:
    """How many images of a batch the image tower holds at a time. It starts with what was asked for, and
    is halved for good whenever the memory runs out: the same training, only slower."""

    def __init__(self, micro_batch_size: int | None, reporter: Reporter) -> None:
        self.micro_batch_size = micro_batch_size
        self._reporter = reporter

    def fit(self, compute: Callable[[int | None], T], batch: int) -> T:
        """`compute(micro_batch_size)` for a batch of so many images, again with smaller parts as long as
        it does not fit. It must leave nothing behind when it fails.

        Raises OutOfMemory if not even one image at a time fits.
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
                        f"or batch_size (now {batch}), or a device that has more memory free."
                    ) from error
            # Only here, where the error is gone, and with it the frames that hold the tensors.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.micro_batch_size = math.ceil(tried / 2)
            self._reporter.warn(
                "micro_batch_reduced",
                f"The memory of the device was too small for {tried} images at a time; it goes on with "
                f"micro_batch_size {self.micro_batch_size}, more slowly and with the same result. Set that, "
                "or a smaller image_size, to start with it.",
            )
