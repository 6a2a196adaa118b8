"""Choice of the device and its precision, and detection of unusable devices and of full memory."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.clip.errors import InvalidConfig

LAST_OLD_WHEELS = "https://download.pytorch.org/whl/cu126"
"""Index of the last wheels with kernels for Maxwell, Pascal and Volta."""
# Messages of CPU allocators and GPU libraries that do not raise torch.OutOfMemoryError.
_SIGNS = (
    "can't allocate memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
logger = logging.getLogger(__name__)


def find_device(device: torch.device | str) -> torch.device:
    """Resolve `auto` to the GPU if this build of torch can compute on it, else to the CPU."""
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
    """Return why this build of torch can't compute on the device, with the remedy, or None if it can."""
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
    try:
        torch.ones(1, device=device).item()
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        reason = str(error).partition("\n")[0]
        return (
            f"{version} can't compute on the {torch.cuda.get_device_name(device)} ({reason}). "
            "Install a newer version: pip install --upgrade torch torchvision. For a GPU older than Turing "
            f"(2018), install: pip install torch torchvision --index-url {LAST_OLD_WHEELS}. Or set "
            "CLIPCITE_DEVICE=cpu."
        )
    return None


def mixed_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type of a precision on a device, or None for fp32.

    Args:
        precision: precision of a training (`core.clip.config.Precision`) or of the service (`core.settings`).
            `auto` selects bf16 if it should be fast on the device, else fp16 on GPUs and fp32 on CPUs.
            A job measures it first.

    Raises:
        InvalidConfig: fp16 or tf32 was requested on a CPU.
    """
    if precision in {"fp16", "tf32"} and device.type == "cpu":
        raise InvalidConfig("precision", f"{precision} needs a GPU. On a CPU use fp32 or bf16.")
    if precision == "auto":
        if device.type == "cuda":
            precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            # On Intel without AMX, a ViT trains 0.6 times as fast in bf16.
            capabilities = _capabilities()
            intel = str(capabilities.get("cpu_name")).startswith("Intel")
            fast = multiplies_bf16() and (capabilities.get("amx_bf16") or not intel)
            precision = "bf16" if fast else "fp32"
    return {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def multiplies_bf16() -> bool:
    """Return True if the CPU has instructions for bf16. Emulated bf16 is slower than fp32."""
    capabilities = _capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _capabilities() -> dict[str, Any]:
    """Return the capabilities of the CPU. Not every supported version of torch knows them."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round the operands of fp32 products and convolutions to 10 bits, in the whole process.

    TF32 is several times as fast. By default, torch allows it in convolutions but not in products.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the error means that device or host memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def in_parts(encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return `encode(rows)`. While the device's memory is too small, compute it in halves, quarters, ….

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
