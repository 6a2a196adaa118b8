"""Sets of tensors that are allocated and freed together, such as a network's.

A set is one allocation, which the C library returns to the system when it is freed, if it is large. Tensors
allocated one by one stay in the process as fragments.
"""

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor

ALIGNED = 64  # bytes: a cache line, and the widest registers


def empty_flat(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return uninitialised contiguous tensors with the types, shapes and devices of `like`.

    Tensors on the CPU share one allocation. Four-dimensional ones share a second: they are filters, which may
    be reordered and then freed.
    """
    made = {
        n: torch.empty_like(t, memory_format=torch.contiguous_format) for n, t in like.items() if not t.is_cpu
    }
    for filters in (True, False):
        made |= _together({n: t for n, t in like.items() if t.is_cpu and (t.dim() == 4) == filters})
    return {name: made[name] for name in like}


def copy_flat(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors into new memory from `empty_flat`."""
    copies = empty_flat(tensors)
    for name, tensor in tensors.items():
        copies[name].copy_(tensor)
    return copies


def _together(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ends = [*accumulate(-(-tensor.nbytes // ALIGNED) * ALIGNED for tensor in like.values())]
    memory = torch.empty(ends[-1] if ends else 0, dtype=torch.uint8)
    return {
        name: memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for (name, tensor), start in zip(like.items(), [0, *ends], strict=False)
    }
