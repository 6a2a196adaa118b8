"""Choice of the device, whether this build of torch can compute on it, and lack of its memory."""

import logging
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LAST_OLD_WHEELS = "https://download.pytorch.org/whl/cu126"
"""Index of the last wheels with kernels for Maxwell, Pascal and Volta."""
# Messages of CPU allocators and GPU libraries, which do not raise torch.OutOfMemoryError.
_SIGNS = (
    "can't allocate memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
logger = logging.getLogger(__name__)


def find_device(device: torch.device | str) -> torch.device:
    """Resolve `auto` to the GPU if there is one on which this build of torch computes, else to the CPU."""
    if device != "auto":
        return torch.device(device)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    problem = device_problem(torch.device("cuda"))
    if problem is not None:
        logger.warning("%s Until then, the CPU computes.", problem)
        return torch.device("cpu")
    return torch.device("cuda")


def device_problem(device: torch.device) -> str | None:
    """Return why this build of torch can't compute on the device, with the remedy; None if it can."""
    if device.type != "cuda":
        return None
    version = f"torch {torch.__version__}"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return (
            f"{version} finds no GPU. Install a GPU driver and a CUDA build of torch, or set "
            "CLIPCITE_DEVICE=cpu."
        )
    if (device.index or 0) >= count:
        return f"There is no {device}: {version} finds {count} GPU(s), cuda:0 to cuda:{count - 1}."
    capability, kernels = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if has_kernels(capability, kernels):
        return None
    oldest = min((_parsed(kernel)[0] for kernel in kernels), default=capability)
    remedy = (
        f"Install a build for older GPUs: pip install torch torchvision --index-url {LAST_OLD_WHEELS}"
        if capability < oldest
        else "Install a newer version: pip install --upgrade torch torchvision"
    )
    return (
        f"{version} has no kernels for the {torch.cuda.get_device_name(device)} (compute capability "
        f"{capability[0]}.{capability[1]}), only for {', '.join(kernels)}. {remedy}. Or set "
        "CLIPCITE_DEVICE=cpu."
    )


def has_kernels(capability: tuple[int, int], kernels: Sequence[str]) -> bool:
    """Return True if one of a build's kernels runs on a GPU.

    Machine code (`sm_86`) runs on GPUs of the same major version and no older minor version. PTX
    (`compute_90`) is compiled for any newer GPU. With the suffix `a` both run on exactly their version, with
    `f` on their major version. Source: CUDA C++ Programming Guide, "Application compatibility".

    Args:
        capability: compute capability of the GPU, for example (8, 6).
        kernels: architectures of the build, as torch.cuda.get_arch_list() names them.
    """
    for kernel in kernels:
        of_kernel, kind, suffix = _parsed(kernel)
        if suffix == "a":
            runs = capability == of_kernel
        elif suffix == "f" or kind == "sm":
            runs = capability[0] == of_kernel[0] and capability >= of_kernel
        else:
            runs = capability >= of_kernel
        if runs:
            return True
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the error means that device or host memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def in_parts(encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return `encode(rows)`, computed in halves, quarters … while the device's memory is too small.

    Raises:
        RuntimeError, MemoryError: the memory is too small for one row.
    """
    try:
        return encode(rows)
    except (RuntimeError, MemoryError) as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    # Outside the except block: the error's traceback keeps the tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return torch.cat([in_parts(encode, half) for half in rows.tensor_split(2)])


def _parsed(kernel: str) -> tuple[tuple[int, int], str, str]:
    """Return compute capability, kind and suffix of an architecture, for example of `sm_90a`."""
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", kernel)
    if match is None:
        raise ValueError(f"Unknown architecture of GPU kernels: {kernel}")
    return (int(match[2]), int(match[3])), match[1], match[4]
