"""The threads that compute: what different requests ask of the same network goes through it together.

One thread for a few processors, not one for all: when several batches are there, each computed by a thread
that waits for nobody takes less time than one after the other, all processors waiting for each other after
every step. A lone batch has them all."""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from core.serving.batching.batch import BatchItem, QueueKey, Slice, left_of, take
from core.serving.limiter import ServerBusy
from core.serving.threads import use_threads
from core.serving.types import BatchCounts

MAX_BATCH_DELAY = 0.25
"""Of the time that a batch takes: so long the next one waits for images that are being decoded."""
MAX_BATCH_DELAY_SECONDS = 0.01
"""Seconds."""
SMOOTHING = 0.1


@dataclass(eq=False)
class Pending:
    """A request whose rows are on their way."""

    lane: QueueKey
    over: bool = False


class Batcher:
    """Every network has its turn, whoever asks how often: a turn is one batch of images or of prompts, from
    all who wait for it. When nothing else waits, a lone request is computed at once; the longer the queue,
    the larger the batches."""

    def __init__(
        self, largest: Mapping[str, int], workers: int, encode: Callable[[QueueKey, Tensor], Tensor]
    ) -> None:
        """`largest`: rows of a batch, of `images` and `prompts`. `workers`: batches computed at a time, each
        by its share of the processors. `encode`: computes a batch [n, ...] to features [n, D]."""
        self.largest = largest
        self._encode = encode
        self.workers = workers
        self.threads = torch.get_num_threads()
        self._changed = threading.Condition()
        self._lanes: OrderedDict[QueueKey, deque[BatchItem]] = (
            OrderedDict()
        )  # the next turn is the first one's
        self._coming: Counter[QueueKey] = Counter()
        self._seconds: dict[str, float] = {}  # of a row, lately
        self._batch_seconds = 0.0
        self._batches: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._busy_seconds = 0.0
        self._computing = 0
        self._closed = False
        # One thread for what is alone, and some for what is not; or one for everything.
        alone = self._is_alone if workers > 1 else self._is_waiting
        self._start("compute", self.threads, alone)
        for i in range(workers if workers > 1 else 0):
            share = self.threads // workers + (i < self.threads % workers)
            self._start(f"compute-{i}", max(1, share), self._is_beside)

    @contextmanager
    def pending(self, lane: QueueKey) -> Iterator[Pending]:
        """Rows are on their way: a batch that is not full may wait a moment for them. They are until the
        last ones are submitted, or the context ends without."""
        arrival = Pending(lane)
        with self._changed:
            self._coming[lane] += 1
            if self._lanes:  # what waits is no longer alone
                self._changed.notify_all()
        try:
            yield arrival
        finally:
            with self._changed:
                self._end(arrival)

    def submit(self, lane: QueueKey, rows: Tensor, last_of: Pending | None = None) -> BatchItem:
        """Rows [n, ...], n > 0. Whoever submits must keep the model until they are through."""
        work = BatchItem(lane, rows)
        with self._changed:
            if self._closed:
                raise ServerBusy("The service is stopping. Ask again in a few seconds.")
            if last_of is not None:
                self._end(last_of)
            self._lanes.setdefault(lane, deque()).append(work)
            self._changed.notify_all()
        return work

    def wait(self, work: BatchItem, seconds: float | None) -> Tensor:
        """Its features [n, D].

        Raises:
            Busy: nothing of it was begun in so long. It is withdrawn.
            Whatever the network raises.
        """
        try:
            return work.features.result(timeout=seconds)
        except TimeoutError:
            if work.features.done():  # by an error of this kind
                raise
        if self.withdraw(work):
            raise ServerBusy("Other classifications are being worked on. Ask again in a few seconds.")
        return work.features.result()

    def withdraw(self, work: BatchItem) -> bool:
        """Unless it was begun."""
        with self._changed:
            lane = self._lanes.get(work.lane)
            if lane is None or work.taken or work not in lane:
                return False
            lane.remove(work)
            if not lane:
                del self._lanes[work.lane]
            if self._lanes:  # what waits may be alone now
                self._changed.notify_all()
            return True

    def counts(self) -> BatchCounts:
        with self._changed:
            waiting = self._waiting()
            return BatchCounts(
                waiting=waiting,
                batches=dict(self._batches),
                rows=dict(self._rows),
                sizes=dict(sorted(self._sizes.items())),
                busy_seconds=self._busy_seconds,
                seconds_to_wait=sum(self._seconds.get(kind, 0.0) * rows for kind, rows in waiting.items())
                / self.workers,
            )

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _end(self, arrival: Pending) -> None:
        if arrival.over:
            return
        arrival.over = True
        self._coming[arrival.lane] -= 1
        if not self._coming[arrival.lane]:
            del self._coming[arrival.lane]
        if self._lanes:
            self._changed.notify_all()

    def _waiting(self) -> dict[str, int]:
        waiting = dict.fromkeys(self.largest, 0)
        for (_, kind), works in self._lanes.items():
            waiting[kind] += left_of(works)
        return waiting

    def _start(self, name: str, threads: int, wanted: Callable[[], bool]) -> None:
        threading.Thread(target=self._run, args=(threads, wanted), name=name, daemon=True).start()

    def _run(self, threads: int, wanted: Callable[[], bool]) -> None:
        use_threads(threads)
        while (batch := self._next_batch(wanted)) is not None:
            self._compute(batch)
            del batch  # while we wait, the memory is for others

    def _is_waiting(self) -> bool:
        return bool(self._lanes)

    def _is_alone(self) -> bool:
        """One batch at most waits, nothing is being computed and nothing is on its way."""
        if self._computing or self._coming or len(self._lanes) != 1:
            return False
        ((_, kind), works) = next(iter(self._lanes.items()))
        return left_of(works) <= self.largest[kind]

    def _is_beside(self) -> bool:
        return bool(self._lanes) and self._computing < self.workers and not self._is_alone()

    def _next_batch(self, wanted: Callable[[], bool]) -> list[Slice] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or wanted())
            if self.workers == 1 and not self._closed:
                self._linger()
            if self._closed:
                for works in self._lanes.values():
                    for work in works:
                        work.features.set_exception(ServerBusy("The service is stopping. Ask again."))
                self._lanes.clear()
                return None
            if not self._lanes:  # withdrawn meanwhile
                return []
            lane, works = self._lanes.popitem(last=False)
            batch = take(works, self.largest[lane[1]])
            if works:
                self._lanes[lane] = works  # at the end: the others' turn
            self._computing += 1
            return batch

    def _linger(self) -> None:
        """For those that come to the only lane, if its batch has room. Several threads don't: small batches
        at once are as fast as a large one."""
        (lane, works), *others = self._lanes.items()
        largest = self.largest[lane[1]]
        if others or left_of(works) >= largest or not self._coming[lane]:
            return

        def nobody_comes() -> bool:
            waiting = left_of(self._lanes.get(lane, ()))
            return self._closed or len(self._lanes) != 1 or not self._coming[lane] or waiting >= largest

        self._changed.wait_for(
            nobody_comes, min(MAX_BATCH_DELAY * self._batch_seconds, MAX_BATCH_DELAY_SECONDS)
        )

    def _compute(self, batch: Sequence[Slice]) -> None:
        if not batch:
            return
        started = time.monotonic()
        work = batch[0].work
        try:
            rows = batch[0].rows if len(batch) == 1 else torch.cat([part.rows for part in batch])
            features = self._encode(work.lane, rows).split([len(part.rows) for part in batch])
        except BaseException as error:
            with self._changed:
                self._done()
                self._fail({part.work for part in batch}, error)
            return
        took, kind, size = time.monotonic() - started, work.lane[1], len(rows)
        with self._changed:
            self._done()
            before = self._seconds.get(kind, took / size)
            self._seconds[kind] = before + SMOOTHING * (took / size - before)
            if kind == "images":
                self._batch_seconds = took
                self._sizes[1 << (size - 1).bit_length()] += 1
            self._batches[kind] += 1
            self._rows[kind] += size
            self._busy_seconds += took
            for part, its in zip(batch, features, strict=True):
                part.work.add(part.start, its)

    def _done(self) -> None:
        self._computing -= 1
        if self._lanes:
            self._changed.notify_all()

    def _fail(self, works: Iterable[BatchItem], error: BaseException) -> None:
        for work in works:
            lane = self._lanes.get(work.lane)
            if lane is not None and work in lane:  # its other rows
                lane.remove(work)
                if not lane:
                    del self._lanes[work.lane]
            if not work.features.done():  # by an error of its other rows
                work.features.set_exception(error)
