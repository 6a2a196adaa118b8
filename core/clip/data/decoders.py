"""Pool of the processes that decode untrusted images, shared by all requests of this process.

Each thread of the pool has one process at a time. A library's pool would do less: if a process dies while it
is idle, pebble 5.2 and `concurrent.futures` refuse all later work. While pebble ends a process that hangs,
the others wait for 3 s. `/classify` with JPEGs is as fast as by memfd and SOCK_SEQPACKET: 1.02 times the rate
for 1 client and for 8 (medians of 9 pairs on two busy cores).
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.clip.data.decoder import Decoder, MoreRoom
from core.clip.data.header import ImageLimits, read_file
from core.clip.data.images import OpenOptions, open_with
from core.clip.errors import BadImage, NoDecoder
from core.turns import TurnThreads

MAX_STARTED = 4
"""Maximum number of processes to start before the first images."""
SMALL_BYTES = 64 * 1024 * 1024
"""Memory that each process may use without a reservation (bytes)."""
LARGE_BYTES = 800_000_000
"""Memory of all larger images together (bytes). An image that needs more is the only large one at a time."""
AHEAD = 2
"""Maximum number of images of a request that are in work or wait for their turn, per process."""
Array = NDArray[np.uint8]
logger = logging.getLogger(__name__)


class Decoders:
    """A pool of decoder processes, for any number of threads.

    Large images have threads of their own, half as many, so that small images do not wait for them. Owners
    take turns.
    """

    def __init__(self, processes: int, owner: Callable[[], str] = lambda: "") -> None:
        """Create a pool without processes.

        Args:
            owner: returns the owner of the images that the calling thread reads.
        """
        self.processes = processes
        self._owner = owner
        self._small = TurnThreads(ThreadPoolExecutor(processes, "decoder"))
        self._large = TurnThreads(ThreadPoolExecutor(max(1, processes // 2), "large-decoder"))
        self._large_held = 0
        self._large_turn = threading.Lock()
        self._large_changed = threading.Condition()
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._closed = False

    def start(self) -> None:
        """Start processes in advance, for the first images. Raise NoDecoder."""
        for _ in range(min(self.processes, MAX_STARTED) - len(self._idle)):
            self._put_back(_started())

    def close(self) -> None:
        """End the processes. A process that is decoding ends after its image."""
        for threads in (self._small, self._large):
            threads.shutdown()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()

    def open_image(self, source: bytes, limits: ImageLimits, **how: Unpack[OpenOptions]) -> Image.Image:
        """Decode an image like `core.clip.data.images.open_image`. Raise BadImage, NoDecoder."""
        (pixels,) = self.read([source], limits, **how)
        if isinstance(pixels, BadImage):
            raise pixels
        return Image.fromarray(pixels)

    def read(
        self, sources: Iterable[bytes], limits: ImageLimits, **how: Unpack[OpenOptions]
    ) -> Generator[Array | BadImage]:
        """Decode the images of a request, several at a time.

        Yields:
            The pixels [H, W, 3], or [H, W] if grey, or why an image can't be read, in the order of `sources`.

        Raises:
            NoDecoder: no process can be started.
        """
        begun: deque[Future[Any]] = deque()
        owner = self._owner()

        def first() -> Array | BadImage:
            found: Array | BadImage | Future[Any] = begun.popleft()
            while isinstance(found, Future):
                found = found.result()
            return found

        try:
            for source in sources:
                begun.append(self._small.submit(owner, self._work, owner, source, limits, SMALL_BYTES, how))
                if len(begun) == AHEAD * self.processes:
                    yield first()
            while begun:
                yield first()
        finally:
            for image in begun:  # of a caller that has given up
                image.cancel()

    def _work(
        self, owner: str, source: bytes, limits: ImageLimits, room: int, how: OpenOptions
    ) -> Array | BadImage | Future[Any]:
        """Decode an image, or return the future of a try with more memory."""
        try:
            with self._reserved(room):
                return self._decode(read_file(source, limits.max_bytes), limits, room, how)
        except BadImage as bad:
            return bad
        except MoreRoom as needed:
            return self._large.submit(owner, self._work, owner, source, limits, needed.room, how)

    @contextmanager
    def _reserved(self, room: int) -> Iterator[None]:
        large = room if room > SMALL_BYTES else 0
        if large:
            with self._large_turn, self._large_changed:  # in order, so that the largest has its turn
                self._large_changed.wait_for(
                    lambda: not self._large_held or self._large_held + large <= LARGE_BYTES
                )
                self._large_held += large
        try:
            yield
        finally:
            with self._large_changed:
                self._large_held -= large
                self._large_changed.notify_all()

    def _decode(self, source: bytes, limits: ImageLimits, room: int, how: OpenOptions) -> Array:
        with self._lock:
            process = self._idle.pop() if self._idle else None
        if process is None or not process.is_alive():
            process = _started()
        try:
            return process.decode(source, limits, room, how)
        finally:
            self._put_back(process)

    def _put_back(self, process: Decoder) -> None:
        with self._lock:
            keep = not self._closed and process.is_alive()
            if keep:
                self._idle.append(process)
        if not keep:
            process.kill()


@contextmanager
def decoded_apart(processes: int = min(4, os.cpu_count() or 1)) -> Iterator[None]:
    """Let other processes decode the images that `open_image` opens in this context."""
    decoders = Decoders(processes)
    open_with(decoders.open_image)
    try:
        yield
    finally:
        open_with(None)
        decoders.close()


def _started() -> Decoder:
    try:
        return Decoder()
    except (OSError, EOFError, RuntimeError) as error:  # out of memory or processes, or shutdown
        logger.error("A process that decodes images cannot be started: %s", error)
        raise NoDecoder("No process for decoding can be started. Try again in a few seconds.") from error
