"""Pool of the processes that decode untrusted images, shared by all requests of this process."""

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.clip.data.decoder import INPUT_BYTES
from core.clip.data.decoder_process import SECONDS, DecoderProcess, MoreRoom
from core.clip.data.header import ImageLimits, read_file
from core.clip.data.images import How, begin, open_with
from core.clip.errors import BadImage, NoDecoder

HAS_PROCESSES = sys.platform == "linux"
"""True where decoder processes can run. Other systems than Linux decode in this process."""
MAX_STARTED = 4
"""Maximum number of processes to start before the first images."""
SMALL_BYTES = 64 * 1024 * 1024
"""Memory that each process may use without a reservation (bytes)."""
LARGE_BYTES = 800_000_000
"""Memory of all larger images together (bytes). An image that needs more is the only large one at a time."""
AHEAD = 4
"""Maximum number of decoded images that wait for an earlier one of their request, per process."""
Array = NDArray[np.uint8]
logger = logging.getLogger(__name__)


@dataclass
class _Flight:
    """An image that is being decoded."""

    index: int
    source: bytes
    until: float
    process: DecoderProcess
    room: ExitStack
    """The slot of the image, and the memory that is reserved if it is large."""


class _Room:
    """Counter of what the images in flight take. Waiting callers are served in order."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, size: int, *, patient: bool) -> bool:
        """Wait for room or, unless `patient`, return False. A lone image always has room."""
        place = object()
        with self._changed:
            if not patient and (self._line or not self._fits(size)):
                return False
            self._line.append(place)
            self._changed.wait_for(lambda: self._line[0] is place and self._fits(size))
            self._line.popleft()
            self._held += size
            self._changed.notify_all()
            return True

    def give_back(self, size: int) -> None:
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return not self._held or self._held + size <= self._most


class Decoders:
    """A pool of decoder processes, for any number of threads.

    Large images occupy at most half of the processes, so that small images do not wait for them.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._slots = _Room(processes)
        self._large = _Room(LARGE_BYTES)
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self._closed = False

    def start(self) -> None:
        """Start processes in advance, for the first images. Raise NoDecoder."""
        if HAS_PROCESSES:
            for _ in range(min(self.processes, MAX_STARTED) - len(self._idle)):
                self._put_back(_started())

    def close(self) -> None:
        """End the processes. A process that is decoding ends after its image."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()

    def open_image(
        self, source: bytes, limits: ImageLimits, *, owner: str, **how: Unpack[How]
    ) -> Image.Image:
        """Decode an image like `core.clip.data.images.open_image`. Raise BadImage, NoDecoder."""
        (pixels,) = self.read([source], limits, owner=owner, **how)
        if isinstance(pixels, BadImage):
            raise pixels
        return Image.fromarray(pixels)

    def read(
        self, sources: Iterable[bytes], limits: ImageLimits, *, owner: str, **how: Unpack[How]
    ) -> Generator[Array | BadImage]:
        """Decode the images of a request, several at a time. Needs no thread besides the caller's.

        Yields:
            The pixels [H, W, 3], or [H, W] if grey, or why an image can't be read, in the order of `sources`.

        Raises:
            NoDecoder: no process can be started.
        """
        if not HAS_PROCESSES:
            yield from self._read_here(iter(sources), limits, owner, how)
            return
        fit = how.get("fit")
        options = {**how, "fit": fit and (fit.side, int(fit.resampling), fit.squash)}
        arriving, more = enumerate(sources), True
        tries: deque[tuple[int, bytes, int]] = deque()
        """Index, file and memory of the images to send next."""
        flights: list[_Flight] = []
        done: dict[int, Array | BadImage] = {}
        position = 0
        try:
            while more or tries or flights:
                while tries or (more and len(done) + len(flights) < AHEAD * self.processes):
                    if not tries:
                        index, source = next(arriving, (-1, b""))
                        if index < 0:
                            more = False
                            break
                        try:
                            file = read_file(source, min(limits.max_bytes, INPUT_BYTES))
                            tries.append((index, file, SMALL_BYTES))
                        except BadImage as bad:
                            done[index] = bad
                            continue
                    # No thread waits for a process while it holds one, so that no two wait for each other.
                    flight = self._begin(*tries[0], owner, limits, options, patient=not flights)
                    if flight is None:
                        break
                    tries.popleft()
                    flights.append(flight)
                for flight in _answered(flights):
                    try:
                        done[flight.index] = flight.process.finish(flight.until - time.monotonic())
                    except BadImage as bad:
                        done[flight.index] = bad
                    except MoreRoom as needed:
                        tries.append((flight.index, flight.source, needed.room))
                    flights.remove(flight)
                    self._end(flight)
                while position in done:
                    yield done.pop(position)
                    position += 1
        finally:
            for flight in flights:  # images of a caller that has given up
                flight.process.kill()
                self._end(flight)

    def _begin(
        self,
        index: int,
        source: bytes,
        room: int,
        owner: str,
        limits: ImageLimits,
        options: dict[str, object],
        *,
        patient: bool,
    ) -> _Flight | None:
        """Send an image to a process. Unless `patient`, return None if all are busy."""
        large = 0 if room <= SMALL_BYTES else max(room, LARGE_BYTES // max(1, self.processes // 2))
        with ExitStack() as held:
            for kind, size in ((self._large, large), (self._slots, 1)):
                if size:
                    if not kind.take(size, patient=patient):
                        return None
                    held.callback(kind.give_back, size)
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None or not process.is_alive():
                process = _started()
            process.begin(source, limits, room, **options)
            return _Flight(index, source, time.monotonic() + SECONDS, process, held.pop_all())

    def _end(self, flight: _Flight) -> None:
        self._put_back(flight.process)
        flight.room.close()

    def _put_back(self, process: DecoderProcess) -> None:
        with self._lock:
            keep = not self._closed and process.is_alive()
            if keep:
                self._idle.append(process)
        if not keep:
            process.kill()

    def _read_here(
        self, sources: Iterator[bytes], limits: ImageLimits, owner: str, how: How
    ) -> Iterator[Array | BadImage]:
        def read(source: bytes) -> Array | BadImage:
            self._slots.take(1, patient=True)
            try:
                return np.asarray(begin(source, limits, **how).decode())
            except BadImage as bad:
                return bad
            finally:
                self._slots.give_back(1)

        with ThreadPoolExecutor(self.processes) as threads:
            while some := list(islice(sources, AHEAD * self.processes)):
                yield from threads.map(read, some)


@contextmanager
def decoded_apart(processes: int = min(4, os.cpu_count() or 1)) -> Iterator[None]:
    """Let other processes decode the images that `open_image` opens in this context."""
    decoders = Decoders(processes)
    open_with(partial(decoders.open_image, owner=""))
    try:
        yield
    finally:
        open_with(None)
        decoders.close()


def _answered(flights: list[_Flight]) -> list[_Flight]:
    """Wait for results or deadlines. Return the images that have a result, or are past their deadline."""
    if len(flights) < 2:
        return flights[:]  # `finish` waits
    left = min(flight.until for flight in flights) - time.monotonic()
    ready = wait([flight.process.link for flight in flights], max(0.0, left))
    now = time.monotonic()
    return [flight for flight in flights if flight.process.link in ready or flight.until <= now]


def _started() -> DecoderProcess:
    try:
        return DecoderProcess.start()
    except (OSError, RuntimeError) as error:  # out of memory or processes, broken installation, or shutdown
        logger.error("A process that decodes images cannot be started: %s", error)
        raise NoDecoder("No process for decoding can be started. Try again in a few seconds.") from error
