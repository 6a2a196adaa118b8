"""Memory for tensors that come and go together, as those of a network do.

The C library keeps what is freed, in pieces that the next network does not fit into: after some changes of
models a process held a fifth more than they took. Here each set has memory of its own from the system, which
goes back when the last of its tensors goes, or to the next set of its size. Large pages are not asked for: a
network was then there sooner at times, and at times, while the system looked for them, much later.
"""

import ctypes
import mmap
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor

ALIGNED = 64  # bytes: a cache line, and the widest registers
LARGE = 2**21
"""Bytes. Less is not worth a set of its own."""


_lock = threading.Lock()
_most = 0
"""Bytes that may be kept now."""
_spare: list[mmap.mmap] = []
# Changed without the lock, by one call each: the last tensor of a set may go anywhere, also while we hold it.


@contextmanager
def reuse_memory(most: int) -> Iterator[None]:
    """So many bytes of what sets leave meanwhile are kept for those that are made meanwhile: to get new
    memory from the system takes longer than to fill it. At the end what is left goes back."""
    global _most
    with _lock:
        _most += most
    try:
        yield
    finally:
        with _lock:
            _most -= most
        _give_back()


def empty_flat(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of these types and shapes and on these devices, with anything in them. Those on the
    CPU share memory: four-dimensional ones, which are filters and may be laid out anew and dropped, apart
    from the rest."""
    filters = {name: t for name, t in like.items() if t.device.type == "cpu" and t.dim() == 4}
    others = {name: t for name, t in like.items() if t.device.type == "cpu" and t.dim() != 4}
    made = {
        n: torch.empty_like(t, memory_format=torch.contiguous_format) for n, t in like.items() if not t.is_cpu
    }
    made |= _shared(filters) | _shared(others)
    return {name: made[name] for name in like}


def copy_flat(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies."""
    copies = empty_flat(tensors)
    for name, tensor in tensors.items():
        copies[name].copy_(tensor)
    return copies


def _shared(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sizes = [-(-tensor.nbytes // ALIGNED) * ALIGNED for tensor in like.values()]
    if sum(sizes) < LARGE:
        return {n: torch.empty_like(t, memory_format=torch.contiguous_format) for n, t in like.items()}
    memory = _memory(sum(sizes))
    starts = accumulate(sizes, initial=0)
    return {
        name: torch.frombuffer(memory, dtype=t.dtype, count=t.numel(), offset=start).view(t.shape)
        if t.numel()
        else torch.empty_like(t)
        for (name, t), start in zip(like.items(), starts, strict=False)
    }


def _memory(size: int) -> "ctypes.Array[ctypes.c_char]":
    mapped = _taken(size) or _from_the_system(size)
    memory = (ctypes.c_char * size).from_buffer(mapped)
    weakref.finalize(memory, _left, mapped).atexit = False
    return memory


def _taken(size: int) -> mmap.mmap | None:
    for spare in tuple(_spare):
        if len(spare) == size:
            try:
                _spare.remove(spare)
            except ValueError:  # another thread has it
                continue
            return spare
    return None


def _left(mapped: mmap.mmap) -> None:
    _spare.append(mapped)
    _give_back()


def _give_back() -> None:
    while sum(map(len, tuple(_spare))) > _most:
        try:
            _spare.pop(0)
        except IndexError:
            return


def _from_the_system(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
