"""The decoding limiter: the order of turns, the memory budget and deadlines."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial

import pytest
from PIL import Image

from core.clip.data.images import ImageLimits
from core.clip.errors import BadImage
from core.serving.decoding import Decoders, Decoding, Share
from tests.api import crafted

ANA, BEN = ("ana", "classify"), ("ben", "classify")
LIMITS = ImageLimits()
GUARD = 600
"""Timeout (seconds). It only guards against hanging."""


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    """Yield decoders with two threads, 32 bytes for small images and 192 for large ones."""
    made = Decoders(2, 256)
    yield made
    made.close()


class Recorder:
    """Source of work items that record their start and block until released."""

    def __init__(self, decoders: Decoders) -> None:
        self.decoders = decoders
        self.order: list[str] = []
        self.started: dict[str, threading.Event] = {}
        self.go_on: dict[str, threading.Event] = {}

    def submit(self, share: Share, *names: str, size: int = 1) -> list[Decoding[str]]:
        works: list[Callable[[Decoding[str]], str]] = []
        for name in names:
            self.started[name], self.go_on[name] = threading.Event(), threading.Event()
            works.append(partial(self._work, name, share, size))
        return self.decoders.submit(share, names, works)

    def _work(self, name: str, share: Share, size: int, decoding: Decoding[str]) -> str:
        with self.decoders.memory(size, share):
            decoding.decoding.set()
            self.order.append(name)
            self.started[name].set()
            assert self.go_on[name].wait(GUARD)
        return name

    def wait_for_start(self, name: str) -> None:
        assert self.started[name].wait(GUARD)

    def release(self, *names: str) -> None:
        for name in names:
            self.go_on[name].set()


def test_requests_of_a_share_take_turns_and_so_do_shares(decoders: Decoders) -> None:
    recorder = Recorder(decoders)
    held = recorder.submit(ANA, "1", "2")
    recorder.wait_for_start("1")
    recorder.wait_for_start("2")
    many = recorder.submit(ANA, "a1", "a2", "a3")
    more = recorder.submit(ANA, "b1", "b2")
    other = recorder.submit(BEN, "ben")
    recorder.release("1")
    recorder.wait_for_start("ben")  # This share has used nothing, and has nothing running.
    recorder.release("ben", "2", "a1", "a2", "a3", "b1", "b2")
    for decoding in [*held, *many, *more, *other]:
        decoding.result()
    assert recorder.order[2] == "ben"
    assert sorted(recorder.order[3:5]) == ["a1", "b1"]


def test_large_images_wait_for_memory_and_small_ones_of_others_do_not(decoders: Decoders) -> None:
    recorder = Recorder(decoders)
    large = recorder.submit(ANA, "l1", "l2", "l3", "l4", "l5", size=1_000)  # Above the whole budget.
    recorder.wait_for_start("l1")
    small = recorder.submit(BEN, "s1", "s2")
    recorder.wait_for_start("s1")
    recorder.release("s1", "s2")
    assert [decoding.result() for decoding in small] == ["s1", "s2"]
    assert recorder.order == ["l1", "s1", "s2"]
    middle = recorder.submit(BEN, "m", size=100)
    recorder.release("l1", "l2", "l3", "l4", "l5", "m")
    for decoding in [*large, *middle]:
        decoding.result()
    assert recorder.order[3] == "l2"
    assert recorder.order.index("m") <= 5  # None starves.


def test_never_more_memory_than_the_budget() -> None:
    decoders = Decoders(8, 3_200)
    assert (decoders.small_bytes, decoders.large_bytes) == (100, 2_400)
    lock, held, most = threading.Lock(), 0, 0

    def work(size: int, decoding: Decoding[int]) -> int:
        nonlocal held, most
        with decoders.memory(size, ("", str(size))):
            with lock:
                held += size
                most = max(most, held)
            threading.Event().wait(0.001)
            with lock:
                held -= size
        return size

    sizes = [50, 300, 1_200, 2_300] * 40
    decodings = [decoders.submit(("", str(s)), i, [partial(work, s)])[0] for i, s in enumerate(sizes)]
    assert [decoding.result() for decoding in decodings] == sizes
    assert 2_300 <= most <= 3_200
    assert not decoders._held_bytes
    assert not decoders._running.total()
    decoders.close()


def test_a_small_image_takes_its_turn_in_the_callers_thread() -> None:
    decoders = Decoders(2, 512_000_000)
    recorder = Recorder(decoders)
    held = recorder.submit(ANA, "1", "2", "3")
    recorder.wait_for_start("1")
    recorder.wait_for_start("2")
    with ThreadPoolExecutor(1) as caller:
        here = caller.submit(decoders.open_here, BEN, crafted.jpeg(), LIMITS, shortest_side=20)
        while BEN not in decoders._waiting:
            threading.Event().wait(0.001)
        recorder.release("1")
        assert here.result(GUARD).size == (20, 27)
        recorder.wait_for_start("3")
        recorder.release("2", "3")
    for decoding in held:
        decoding.result()
    assert decoders._running.total() == 0
    decoders.close()


@pytest.mark.parametrize("budget", [512_000_000, 8])
def test_an_image_is_the_same_whichever_thread_decodes_it(budget: int) -> None:
    decoders = Decoders(2, budget)
    opened = decoders.open_here(ANA, crafted.jpeg(), LIMITS, shortest_side=20)
    assert isinstance(opened, Image.Image)
    with pytest.raises(BadImage, match="empty"):
        decoders.open_here(ANA, b"", LIMITS, shortest_side=20)
    assert decoders._running.total() == 0
    decoders.close()


def test_an_image_over_its_deadline_fails_alone() -> None:
    decoders = Decoders(2, 256, deadline_seconds=0.05)
    recorder = Recorder(decoders)
    slow, quick = recorder.submit(ANA, "slow", "quick")
    recorder.release("quick")
    with pytest.raises(BadImage, match="within") as caught:
        slow.result()
    assert caught.value.code == "image_too_costly"
    assert quick.result() == "quick"
    assert decoders._running.total() == 1  # A timed-out item counts until it ends.
    recorder.release("slow")
    assert slow.future.result(GUARD) == "slow"
    decoders.close()


def test_waiting_for_a_turn_is_no_part_of_the_deadline(decoders: Decoders) -> None:
    decoders.deadline_seconds = 0.2
    recorder = Recorder(decoders)
    recorder.submit(ANA, "1", size=1_000)
    recorder.wait_for_start("1")
    (waiting,) = recorder.submit(ANA, "2", size=1_000)
    recorder.release("2")
    with ThreadPoolExecutor(1) as caller:
        result = caller.submit(waiting.result)
        assert not waiting.decoding.wait(0.5)
        recorder.release("1")
        assert result.result(GUARD) == "2"


def test_waiting_items_are_cancelled(decoders: Decoders) -> None:
    recorder = Recorder(decoders)
    decodings = recorder.submit(ANA, "1", "2", "3", "4")
    recorder.wait_for_start("1")
    recorder.wait_for_start("2")
    decoders.cancel(decodings)
    recorder.release("1", "2")
    assert decodings[1].result() == "2"
    with pytest.raises(CancelledError):
        decodings[3].result()
    (later,) = recorder.submit(ANA, "5")
    recorder.release("5")
    assert later.result() == "5"
    assert sorted(recorder.order) == ["1", "2", "5"]


def test_closing_leaves_nobody_waiting(decoders: Decoders) -> None:
    recorder = Recorder(decoders)
    running = recorder.submit(ANA, "1", "2")
    recorder.wait_for_start("1")
    recorder.wait_for_start("2")
    (waiting,) = recorder.submit(BEN, "3")
    decoders.close()
    with pytest.raises(CancelledError):
        waiting.result()
    recorder.release("1", "2")
    assert [decoding.result() for decoding in running] == ["1", "2"]
