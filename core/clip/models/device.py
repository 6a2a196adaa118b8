"""Choice of the device and of its precision, whether torch can compute on it, and lack of its memory."""

import logging
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from core.clip.errors import InvalidConfig

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
        kernel_capability, kind, suffix = _parsed(kernel)
        if suffix == "a":
            runs = capability == kernel_capability
        elif suffix == "f" or kind == "sm":
            runs = capability[0] == kernel_capability[0] and capability >= kernel_capability
        else:
            runs = capability >= kernel_capability
        if runs:
            return True
    return False


def mixed_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type of a precision on a device; None means that fp32 is computed.

    Args:
        precision: that of a training (`core.clip.config.Precision`) or of the service (`core.settings`).
            `auto` selects bf16 if the device supports it natively, else fp16 on GPUs and fp32 on CPUs.

    Raises:
        InvalidConfig: fp16 or tf32 was requested on a CPU.
    """
    if precision in {"fp16", "tf32"} and device.type == "cpu":
        raise InvalidConfig("precision", f"{precision} needs a GPU. On a CPU use fp32 or bf16.")
    if precision == "auto":
        if device.type == "cuda":
            precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            precision = "bf16" if _computes_bf16() else "fp32"
    return {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _computes_bf16() -> bool:
    """Return True if the CPU multiplies bf16 in hardware. Emulated bf16 is slower than fp32."""
    # Not every supported version of torch has get_capabilities.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round the operands of fp32 products and convolutions to 10 bits, in this whole process.

    TF32 is several times as fast. By default, torch allows it in convolutions and not in products.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


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
