"""Tensors in one allocation: equal to their originals, and freed with the last of them."""

import gc
from pathlib import Path

import torch
from torch import Tensor

from core.clip.weights.flat import ALIGNED, copy_flat, empty_flat

MANY = 2**20


def tensors() -> dict[str, Tensor]:
    return {
        "matrix": torch.randn(MANY, 1),
        "vector": torch.randn(7),
        "filters": torch.randn(MANY // 8, 8, 3, 3),
        "numbers": torch.arange(5, dtype=torch.int32),
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(2.0),
    }


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_copies_are_equal_in_order_and_aligned() -> None:
    given = tensors()
    copies = copy_flat(given)
    assert list(copies) == list(given)
    for name, tensor in given.items():
        copy = copies[name]
        assert (copy.dtype, copy.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(copy, tensor)
        assert copy.storage_offset() * copy.element_size() % ALIGNED == 0
        copy.zero_()
    assert given["matrix"].any()


def test_filters_are_apart_from_the_rest() -> None:
    made = empty_flat(tensors())
    places = {name: made[name].untyped_storage().data_ptr() for name in ("matrix", "vector", "filters")}
    assert places["matrix"] == places["vector"] != places["filters"]


def test_other_devices_use_their_own_allocator() -> None:
    made = empty_flat({"there": torch.empty(MANY, 2, device="meta"), "here": torch.empty(MANY, 2)})
    assert (made["there"].device.type, made["here"].device.type) == ("meta", "cpu")


def test_the_memory_goes_back_at_once() -> None:
    # The C library would keep tensors of this size, which lie between others that stay.
    like = {str(i): torch.ones(MANY // 4) for i in range(40)}
    sets = [copy_flat(like) for _ in range(6)]
    size = sum(tensor.nbytes for tensor in like.values())
    gc.collect()
    before = resident()
    del sets[::2]
    assert before - resident() > 2.9 * size
