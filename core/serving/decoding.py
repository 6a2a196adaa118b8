"""Fair image decoding for all requests of a process, with bounded threads and memory."""

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Generic, TypeVar

from PIL import Image
from torch import Tensor

from core.clip.data.images import ImageLimits, open_image, read_header
from core.clip.data.transforms import Pixels
from core.clip.errors import BadImage
from core.clip.models.backbone import image_transform
from core.serving import decoder_process
from core.serving.decoder_process import TooLarge, too_slow
from core.serving.threads import single_threaded

T = TypeVar("T")
Share = tuple[str, str]
"""Owner and use, such as `classify`: the unit of fairness."""
DEADLINE_SECONDS = 20.0
"""Maximum decoding time of an image: ten times that of the costliest image within the limits."""
MAX_STARTED = 4
"""Maximum number of processes that wait for the first images."""
HAS_PROCESSES = sys.platform == "linux"
"""Other systems decode in this process, because the processes need Linux."""


class Decoding(Generic[T]):
    """One image in the decoding queue, and its result."""

    def __init__(self, decoders: "Decoders", share: Share) -> None:
        self.share = share
        self.future: Future[T] = Future()
        self.decoding = threading.Event()
        """Set when the image has its memory, or has ended."""
        self.process_seconds = 0.0
        """CPU seconds outside this process."""
        self._decoders = decoders

    def open_image(
        self,
        source: bytes,
        limits: ImageLimits,
        *,
        shortest_side: int | None = None,
        grey: bool = False,
    ) -> Image.Image:
        """Open an image like `core.clip.data.images.open_image`, once there is memory for it."""

        @contextmanager
        def hold(peak_bytes: int) -> Iterator[None]:
            with self._decoders.memory(peak_bytes, self.share):
                self.decoding.set()
                yield

        image, seconds = self._decoders.decode(source, limits, hold, shortest_side=shortest_side, grey=grey)
        self.process_seconds += seconds
        return image

    def result(self) -> T:
        """Wait for the result.

        Raises:
            BadImage: `image_too_costly`, after the deadline. The thread can't be stopped, and counts as
                running until it ends.
            Exception: any error of the work.
        """
        self.decoding.wait()
        try:
            return self.future.result(self._decoders.deadline_seconds)
        except FutureTimeoutError:
            if self.future.done():  # the work itself timed out
                raise
            raise BadImage("image_too_costly", too_slow(self._decoders.deadline_seconds)) from None


class Decoders:
    """Threads and memory for decoding.

    Scheduling is fair: the share with the least CPU time is next, and its requests take turns. A share with
    thousands of large images delays others only by the images that are being decoded.

    A quarter of the memory is reserved for small images, one per thread. Large images share the rest, first
    come, first served. An image larger than the rest is decoded without other large images. A share that
    waits for memory gets no further thread, and its waiting thread does not count as running.
    """

    def __init__(
        self, threads: int, budget_bytes: int, *, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self.threads = threads
        self.deadline_seconds = deadline_seconds
        self.small_bytes = budget_bytes // (4 * threads)
        """Size up to which an image never waits for memory."""
        self.large_bytes = budget_bytes - threads * self.small_bytes
        self._pool = single_threaded(2 * threads, "decoder")  # half of them may wait for memory
        self._changed = threading.Condition()
        self._running: Counter[Share] = Counter()
        self._waiting: dict[Share, dict[Hashable, deque[Callable[[], object]]]] = {}
        self._used: dict[Share, float] = {}
        """CPU seconds by share, reset when no share waits."""
        self._blocked: list[Share] = []
        """Shares with an image that waits for memory, one entry per image."""
        self._held_bytes = 0
        self._tickets: deque[object] = deque()

    def submit(
        self, share: Share, request: Hashable, works: Sequence[Callable[[Decoding[T]], T]]
    ) -> list[Decoding[T]]:
        """Queue functions that open one image each, by `Decoding.open_image`."""
        decodings = [Decoding[T](self, share) for _ in works]
        with self._changed:
            for decoding, work in zip(decodings, works, strict=True):
                self._queue(share, request, partial(self._start, decoding, work))
            self._start_waiting()
        return decodings

    def open_here(
        self, share: Share, source: bytes, limits: ImageLimits, *, shortest_side: int
    ) -> Image.Image:
        """Open an image, a small one in the caller's thread, which saves a thread switch.

        Raises BadImage.
        """

        def hold(peak_bytes: int) -> AbstractContextManager[None]:
            if peak_bytes > self.small_bytes:
                raise TooLarge
            return nullcontext()

        def work(decoding: Decoding[Image.Image]) -> Image.Image:
            return decoding.open_image(source, limits, shortest_side=shortest_side)

        self._enter(share)
        started, seconds = time.thread_time(), 0.0
        try:
            image, seconds = self.decode(source, limits, hold, shortest_side=shortest_side, grey=False)
            return image
        except TooLarge:
            pass
        finally:
            self._leave(share, time.thread_time() - started + seconds)
        (decoding,) = self.submit(share, object(), [work])
        return decoding.result()

    @contextmanager
    def turn(self, share: Share) -> Iterator[None]:
        """Wait for the share's turn, for work in the caller's thread that is no image."""
        self._enter(share)
        started = time.thread_time()
        try:
            yield
        finally:
            self._leave(share, time.thread_time() - started)

    def decode(
        self,
        source: bytes,
        limits: ImageLimits,
        hold: Callable[[int], AbstractContextManager[None]],
        *,
        shortest_side: int | None,
        grey: bool,
    ) -> tuple[Image.Image, float]:
        """Decode an image. Return it with the CPU seconds of another process.

        Args:
            hold: returns a context that holds the image's memory. In another process it is called only above
                `small_bytes`.

        Raises BadImage, and any error of `hold`.
        """
        if not HAS_PROCESSES:
            header = read_header(source, limits, shortest_side=shortest_side, grey=grey)
            with hold(header.peak_bytes):
                return header.decode(), 0.0
        return decoder_process.decode(
            source,
            limits,
            hold,
            shortest_side=shortest_side,
            grey=grey,
            small_bytes=self.small_bytes,
            seconds=self.deadline_seconds,
        )

    def start(self) -> None:
        """Start the processes, so that the first images need not wait for them."""
        if HAS_PROCESSES:
            decoder_process.start(min(self.threads, MAX_STARTED))

    def cancel(self, decodings: Sequence[Decoding[Any]]) -> None:
        """Cancel decodings that have not started, and wait until the others have their memory."""
        for decoding in decodings:
            if decoding.future.cancel():
                decoding.decoding.set()
        for decoding in decodings:
            if not decoding.future.cancelled():
                decoding.decoding.wait()

    def close(self) -> None:
        """Cancel waiting decodings; running ones finish."""
        self._pool.shutdown(wait=False)
        with self._changed:
            while start := self._next():
                start()

    @contextmanager
    def memory(self, peak_bytes: int, share: Share) -> Iterator[None]:
        """Hold part of the memory budget. The caller occupies a thread."""
        if peak_bytes <= self.small_bytes:
            yield
            return
        with self._changed:
            self._wait_for_memory(peak_bytes, share)
            self._held_bytes += peak_bytes
        try:
            yield
        finally:
            with self._changed:
                self._held_bytes -= peak_bytes
                self._changed.notify_all()

    def _wait_for_memory(self, peak_bytes: int, share: Share) -> None:
        def fits() -> bool:
            free = self._held_bytes == 0 or self._held_bytes + peak_bytes <= self.large_bytes
            return self._tickets[0] is ticket and free

        ticket = object()
        self._tickets.append(ticket)
        try:
            if fits():
                return
            lends_thread = len(self._blocked) < self.threads
            if lends_thread:
                self._blocked.append(share)
                self._running[share] -= 1
                self._start_waiting()
            self._changed.wait_for(fits)
            if lends_thread:
                self._blocked.remove(share)
                self._running[share] += 1
                self._start_waiting()
        finally:
            self._tickets.remove(ticket)
            self._changed.notify_all()

    def _enter(self, share: Share) -> None:
        """Count the caller's thread as running, after waiting for its turn."""
        with self._changed:
            if self._running.total() < self.threads and self._waiting.keys() <= set(self._blocked):
                self._running[share] += 1
                return
            turn = threading.Event()
            self._queue(share, turn, turn.set)
            self._start_waiting()
        turn.wait()

    def _leave(self, share: Share, cpu_seconds: float) -> None:
        with self._changed:
            self._running[share] -= 1
            if self._waiting:
                self._used[share] = self._used.get(share, 0.0) + cpu_seconds
                self._start_waiting()
            else:
                self._used.clear()
                self._running += Counter()  # drops those at 0

    def _start(self, decoding: Decoding[T], work: Callable[[Decoding[T]], T]) -> None:
        try:
            self._pool.submit(self._run, decoding, work)
        except RuntimeError:  # closed
            decoding.future.cancel()
            decoding.decoding.set()

    def _run(self, decoding: Decoding[T], work: Callable[[Decoding[T]], T]) -> None:
        started = time.thread_time()
        try:
            if decoding.future.set_running_or_notify_cancel():
                decoding.future.set_result(work(decoding))
        except BaseException as error:
            decoding.future.set_exception(error)
        finally:
            decoding.decoding.set()
            self._leave(decoding.share, time.thread_time() - started + decoding.process_seconds)

    def _queue(self, share: Share, request: Hashable, start: Callable[[], object]) -> None:
        if share not in self._waiting:
            # A new or returning share starts level with the waiting share that has used least.
            level = min((self._used.get(other, 0.0) for other in self._waiting), default=0.0)
            self._used[share] = max(self._used.get(share, 0.0), level)
        self._waiting.setdefault(share, {}).setdefault(request, deque()).append(start)

    def _start_waiting(self) -> None:
        while self._running.total() < self.threads:
            start = self._next()
            if start is None:
                return
            start()

    def _next(self) -> Callable[[], object] | None:
        """Take the next turn, count it as running, and return its start function."""
        shares = [share for share in self._waiting if share not in self._blocked]
        if not shares:
            return None
        share = min(shares, key=lambda share: (self._used.get(share, 0.0), self._running[share]))
        requests = self._waiting[share]
        request = next(iter(requests))
        turns = requests.pop(request)
        start = turns.popleft()
        if turns:
            requests[request] = turns  # last in line
        if not requests:
            del self._waiting[share]
        self._running[share] += 1
        return start


def fitted(
    data: bytes,
    preprocess: str,
    image_size: int,
    limits: ImageLimits,
    open_image: Callable[..., Image.Image] = open_image,
) -> Tensor:
    """Decode and resize a file by `Pixels.fit`. At once, so that few full-size images are in memory.

    Args:
        preprocess: settings of the image transform to `image_size`.
        open_image: a function like `core.clip.data.images.open_image`, possibly with a memory budget.

    Raises BadImage.
    """
    return Pixels(image_transform(preprocess)).fit(open_image(data, limits, shortest_side=2 * image_size))
