"""Tensors in one shared memory block: equal to their originals, and freed with the last of them."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from core.clip.weights.flat import ALIGNED, LARGE, copy_flat, empty_flat, reuse_memory

MANY = LARGE // 4  # Number of floats in a large page.


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
        assert copy.data_ptr() % ALIGNED == 0
        copy.zero_()
    assert given["matrix"].any()


def test_filters_are_apart_from_the_rest() -> None:
    made = empty_flat(tensors())
    places = {name: made[name].untyped_storage().data_ptr() for name in ("matrix", "vector", "filters")}
    assert places["matrix"] != places["filters"]
    assert abs(made["vector"].data_ptr() - made["matrix"].data_ptr()) <= 4 * MANY


def test_other_devices_use_their_own_allocator() -> None:
    made = empty_flat({"there": torch.empty(MANY, 2, device="meta"), "here": torch.empty(MANY, 2)})
    assert (made["there"].device.type, made["here"].device.type) == ("meta", "cpu")


def test_the_memory_goes_back_at_once() -> None:
    # This size would be kept by the C library, and lies between others that stay.
    sets = [copy_flat({"a": torch.ones(MANY), "b": torch.ones(MANY)}) for _ in range(8)]
    gc.collect()
    before = resident()
    del sets[::2]
    gc.collect()
    assert before - resident() > 3.5 * 2 * LARGE


def test_the_next_set_reuses_freed_memory() -> None:
    large = 8 * LARGE  # other threads change the memory of this process by a page or two
    like = {"a": torch.ones(8 * MANY), "b": torch.ones(8 * MANY)}
    first = copy_flat(like)
    place = first["a"].data_ptr()
    before = resident()
    with reuse_memory(8 * large):
        del first
        second, other = empty_flat(like), copy_flat(like)
        assert second["a"].data_ptr() == place
        assert torch.equal(second["b"], like["b"])  # The memory still holds the previous contents.
        del other  # Its memory is kept for a set that never comes.
        assert resident() - before > 1.5 * large
        with reuse_memory(large):
            pass  # The end of another block frees nothing.
        assert resident() - before > 1.5 * large
    assert resident() - before < large  # The end of this block frees the kept memory.
    del second
    assert before - resident() > 1.5 * large


def test_the_kept_memory_is_limited() -> None:
    sets = [copy_flat({"a": torch.ones(2 * MANY)}) for _ in range(6)]
    before = resident()
    with reuse_memory(4 * LARGE + LARGE // 2):
        del sets
        assert before - resident() > 7.5 * LARGE  # 12 pages in total; two sets are kept.
    assert before - resident() > 11.5 * LARGE


def test_memory_of_another_size_is_not_reused() -> None:
    with reuse_memory(8 * LARGE):
        copy_flat({"a": torch.ones(2 * MANY)})
        assert len(empty_flat({"a": torch.ones(4 * MANY)})["a"]) == 4 * MANY


def test_many_threads_never_share_memory() -> None:
    def use(i: int) -> bool:
        for _ in range(20):
            mine = empty_flat({"a": torch.ones(2 * MANY)})["a"]
            mine.fill_(i)
            if not bool((mine == i).all()):
                return False
        return True

    with reuse_memory(4 * LARGE), ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(8)))
