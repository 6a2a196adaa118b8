"""The pool of decoder processes: order, large images, and faults that cost one image only."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipcite.types.images import Image as LabelledImage
from core.clip.data import decoders
from core.clip.data.decoder import Decoder
from core.clip.data.decoders import Decoders, decoded_apart
from core.clip.data.header import ImageLimits
from core.clip.data.images import OpenOptions, open_image
from core.clip.data.loader import read_images
from core.clip.errors import BadImage, NoDecoder
from tests.api import crafted
from tests.service.running import wait_for

LIMITS = ImageLimits()
GUARD = 60
"""Timeout (seconds). It only guards against hanging."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    made = Decoders(2)
    yield made
    made.close()


def test_images_come_in_order_with_their_errors(pool: Decoders) -> None:
    sources = [crafted.jpeg(1), b"", crafted.honest("PNG", 1_500), b"no image", *map(crafted.jpeg, range(20))]
    found = list(pool.read(iter(sources), LIMITS, shortest_side=20))
    assert len(found) == len(sources)
    for i, code in ((1, "empty_file"), (3, "not_an_image")):
        bad = found.pop(i)
        sources[i : i + 1] = [crafted.jpeg()]
        found.insert(i, np.asarray(open_image(crafted.jpeg(), LIMITS, shortest_side=20)))
        assert isinstance(bad, BadImage)
        assert bad.code == code
    for source, pixels in zip(sources, found, strict=True):
        assert np.array_equal(pixels, np.asarray(open_image(source, LIMITS, shortest_side=20)))
    assert list(pool.read([], LIMITS, shortest_side=20)) == []


def test_files_are_read_only_a_little_ahead(pool: Decoders) -> None:
    read: list[int] = []

    def sources() -> Iterator[bytes]:
        for i in range(100):
            read.append(i)
            yield crafted.jpeg(i)

    images = pool.read(sources(), LIMITS, shortest_side=20)
    next(images)
    assert len(read) <= decoders.AHEAD * pool.processes
    images.close()
    assert pool.open_image(crafted.jpeg(), LIMITS, shortest_side=20).size == (20, 27)


def test_a_small_image_is_decoded_beside_large_ones(pool: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images stop in their processes until the small one has its answer."""
    large = crafted.honest("PNG", 3_000)
    begun, answered = threading.Event(), threading.Event()
    decode = Decoder.decode

    def watched(process: Decoder, source: bytes, limits: ImageLimits, room: int, how: OpenOptions) -> Any:
        if room > decoders.SMALL_BYTES:
            begun.set()
            assert answered.wait(GUARD)
        return decode(process, source, limits, room, how)

    monkeypatch.setattr(Decoder, "decode", watched)
    with ThreadPoolExecutor(4) as callers:
        waiting = [callers.submit(pool.open_image, large, LIMITS, shortest_side=20) for _ in range(4)]
        try:
            assert begun.wait(GUARD)
            small = pool.open_image(crafted.jpeg(), LIMITS, shortest_side=20)
            assert not any(future.done() for future in waiting)
        finally:
            answered.set()
        assert [future.result(GUARD).size for future in waiting] == [(20, 20)] * 4
    assert small.size == (20, 27)


@pytest.mark.parametrize("size", ["small", "large"])
def test_another_owner_waits_for_one_image_only(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    owner = threading.local()
    pool = Decoders(1, owner=lambda: owner.name)
    flood = crafted.jpeg(1) if size == "small" else crafted.honest("PNG", 3_000)
    mine = crafted.jpeg(2) if size == "small" else crafted.honest("PNG", 2_500)
    begun, go_on, order = threading.Event(), threading.Event(), list[bytes]()
    decode = Decoder.decode

    def watched(process: Decoder, source: bytes, limits: ImageLimits, room: int, how: OpenOptions) -> Any:
        if size == "small" or room > decoders.SMALL_BYTES:
            order.append(source)
            begun.set()
            assert go_on.wait(GUARD)
        return decode(process, source, limits, room, how)

    def open_as(name: str, source: bytes) -> Any:
        owner.name = name
        return pool.open_image(source, LIMITS, shortest_side=20)

    monkeypatch.setattr(Decoder, "decode", watched)
    waiting = (pool._small if size == "small" else pool._large)._waiting
    with ThreadPoolExecutor(8) as callers:
        try:
            images = [callers.submit(open_as, "a", flood) for _ in range(6)]
            assert begun.wait(GUARD)
            wait_for(lambda: len(list(waiting)) == 5)
            images.append(callers.submit(open_as, "b", mine))
            wait_for(lambda: len(list(waiting)) == 6)
        finally:
            go_on.set()
        for image in images:
            image.result(GUARD)
    assert order.index(mine) <= 2
    pool.close()


@pytest.mark.parametrize("processes", [1, 4])
def test_large_images_never_hold_more_than_their_memory(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "LARGE_BYTES", 250_000_000)
    pool, lock = Decoders(processes), threading.Lock()
    decode = Decoder.decode
    rooms: dict[Decoder, int] = {}
    most = most_at_once = 0

    def watched(process: Decoder, source: bytes, limits: ImageLimits, room: int, how: OpenOptions) -> Any:
        nonlocal most, most_at_once
        with lock:
            if room > decoders.SMALL_BYTES:
                rooms[process] = room
            most, most_at_once = max(most, sum(rooms.values())), max(most_at_once, len(rooms))
        try:
            return decode(process, source, limits, room, how)
        finally:
            with lock:
                rooms.pop(process, None)

    monkeypatch.setattr(Decoder, "decode", watched)
    sources = [crafted.honest("PNG", side) for side in (1_900, 2_500, 3_000)] * 2
    with ThreadPoolExecutor(6) as callers:
        for image in callers.map(lambda source: pool.open_image(source, LIMITS, shortest_side=20), sources):
            assert image.size == (20, 20)
    assert 180_000_000 < most <= 250_000_000
    assert most_at_once <= max(1, processes // 2)
    pool.close()


def test_a_crash_costs_one_image_and_the_process_is_replaced(
    pool: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, deadly = Decoder.decode, crafted.jpeg(7)
    hit: list[int] = []

    def fragile(process: Decoder, source: bytes, *given: Any) -> Any:
        if source == deadly:
            hit.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)
        return decode(process, source, *given)

    monkeypatch.setattr(Decoder, "decode", fragile)
    sources = [crafted.jpeg(1), deadly, crafted.jpeg(2), deadly, crafted.jpeg(3)]
    found = list(pool.read(sources, LIMITS, shortest_side=20))
    for i, source in enumerate(sources):
        if source == deadly:
            assert isinstance(found[i], BadImage)
            assert "failed badly" in found[i].detail
        else:
            assert np.array_equal(found[i], np.asarray(open_image(source, LIMITS, shortest_side=20)))
    assert len(set(hit)) == 2


def test_a_process_that_dies_while_idle_costs_nothing() -> None:
    pool = Decoders(1)
    pool.start()
    (idle,) = pool._idle
    os.kill(idle.pid, signal.SIGKILL)
    wait_for(lambda: not idle.is_alive())
    assert pool.open_image(crafted.jpeg(), LIMITS, shortest_side=20).size == (20, 27)
    pool.close()


def test_a_process_that_does_not_start_is_not_blamed_on_the_image(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(NoDecoder, match="Try again"):
        Decoders(1).open_image(crafted.jpeg(), LIMITS, shortest_side=20)
    assert "cannot be started" in caplog.text


def test_the_images_of_a_training_are_decoded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [LabelledImage(content, "") for content in (crafted.jpeg(1), crafted.png(2))]
    expected = [image.numpy() for image in read_images(images, LIMITS, 20)]
    monkeypatch.setattr("core.clip.data.images.begin", lambda *given, **how: pytest.fail("decoded here"))
    with decoded_apart(2):
        found = read_images(images, LIMITS, 20)
        with pytest.raises(BadImage, match="empty"):
            read_images([LabelledImage(b"", "")], LIMITS, 20)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_closed_pool_keeps_no_process() -> None:
    pool = Decoders(2)
    pool.start()
    idle = list(pool._idle)
    images = pool.read([crafted.jpeg(1), crafted.jpeg(2)], LIMITS, shortest_side=20)
    first = next(images)
    pool.close()
    assert isinstance(Image.fromarray(first), Image.Image)
    assert len(list(images)) == 1
    assert not pool._idle
    assert not any(process.is_alive() for process in idle)
