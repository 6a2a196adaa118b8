"""One thread that computes: what different requests ask of the same network goes through it together."""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.serving.gate import Busy

LINGER = 0.25
"""Of the time that a batch takes: so long the next one waits for pictures that are being decoded."""
LONGEST_LINGER = 0.01
"""Seconds."""
SMOOTHING = 0.1

Encode = Callable[[Tensor], Tensor]
Lane = tuple[str, str]
"""The network's key, and `images` or `texts`."""


@dataclass(eq=False)
class Work:
    """Rows of one request, [n, ...]. `features` [n, D] when they are through."""

    lane: Lane
    encode: Encode
    rows: Tensor
    taken: int = 0
    parts: list[Tensor] = field(default_factory=list)
    features: Future[Tensor] = field(default_factory=Future)


@dataclass(frozen=True)
class BatchCounts:
    waiting: dict[str, int]
    """Rows that are not being computed yet, by `images` and `texts`."""
    batches: dict[str, int]
    rows: dict[str, int]
    """That went through in those batches."""
    sizes: dict[int, int]
    """How many batches of pictures had at most so many, and more than half of that."""
    busy_seconds: float


class Batcher:
    """Every network has its turn, whoever asks how often: a turn is one batch of pictures or of texts, from
    all who wait for it. When nothing else waits, a lone request is computed at once; the longer the queue,
    the larger the batches."""

    def __init__(self, largest: dict[str, int]) -> None:
        """`largest`: rows of a batch, of `images` and `texts`."""
        self.largest = largest
        self._changed = threading.Condition()
        self._lanes: OrderedDict[Lane, deque[Work]] = OrderedDict()  # the next turn is the first one's
        self._coming: Counter[Lane] = Counter()
        self._seconds: dict[str, float] = {}  # of a row, lately
        self._batch_seconds = 0.0
        self._batches: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._busy_seconds = 0.0
        self._closed = False
        self.threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    @contextmanager
    def coming(self, lane: Lane) -> Iterator[None]:
        """Rows are on their way: a batch that is not full may wait a moment for them."""
        with self._changed:
            self._coming[lane] += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming[lane] -= 1
                if not self._coming[lane]:
                    del self._coming[lane]
                self._changed.notify_all()

    def submit(self, lane: Lane, encode: Encode, rows: Tensor) -> Work:
        """Rows [n, ...], n > 0. Whoever submits must keep the network until they are through."""
        work = Work(lane, encode, rows)
        with self._changed:
            if self._closed:
                raise Busy("The service is stopping. Ask again in a few seconds.")
            self._lanes.setdefault(lane, deque()).append(work)
            self._changed.notify_all()
        return work

    def wait(self, work: Work, seconds: float | None) -> Tensor:
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
            raise Busy("Other classifications are being worked on. Ask again in a few seconds.")
        return work.features.result()

    def withdraw(self, work: Work) -> bool:
        """Unless it was begun."""
        with self._changed:
            lane = self._lanes.get(work.lane)
            if lane is None or work.taken or work not in lane:
                return False
            lane.remove(work)
            if not lane:
                del self._lanes[work.lane]
            return True

    def counts(self) -> BatchCounts:
        with self._changed:
            return BatchCounts(
                waiting=self._waiting(),
                batches=dict(self._batches),
                rows=dict(self._rows),
                sizes=dict(sorted(self._sizes.items())),
                busy_seconds=self._busy_seconds,
            )

    def seconds_to_wait(self) -> float:
        """For what waits now, as far as can be told."""
        with self._changed:
            return sum(self._seconds.get(kind, 0.0) * rows for kind, rows in self._waiting().items())

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _waiting(self) -> dict[str, int]:
        waiting = dict.fromkeys(self.largest, 0)
        for (_, kind), works in self._lanes.items():
            waiting[kind] += sum(len(work.rows) - work.taken for work in works)
        return waiting

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._compute(batch)
            del batch  # while we wait, the memory is for others

    def _next_batch(self) -> list[tuple[Work, Tensor]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lanes or self._closed)
            if not self._closed:
                self._linger()
            if self._closed:
                for works in self._lanes.values():
                    for work in works:
                        work.features.set_exception(Busy("The service is stopping. Ask again."))
                self._lanes.clear()
                return None
            if not self._lanes:  # withdrawn meanwhile
                return []
            lane, works = self._lanes.popitem(last=False)
            batch = _take(works, self.largest[lane[1]])
            if works:
                self._lanes[lane] = works  # at the end: the others' turn
            return batch

    def _linger(self) -> None:
        """For those that come to the only lane, if its batch has room."""
        (lane, works), *others = self._lanes.items()
        room = self.largest[lane[1]] - sum(len(work.rows) - work.taken for work in works)
        if others or room <= 0 or not self._coming[lane]:
            return

        def nobody_comes() -> bool:
            waiting = sum(len(work.rows) - work.taken for work in self._lanes.get(lane, ()))
            return self._closed or len(self._lanes) != 1 or not self._coming[lane] or waiting >= room

        self._changed.wait_for(nobody_comes, min(LINGER * self._batch_seconds, LONGEST_LINGER))

    def _compute(self, batch: Sequence[tuple[Work, Tensor]]) -> None:
        if not batch:
            return
        started = time.monotonic()
        work = batch[0][0]
        try:
            rows = batch[0][1] if len(batch) == 1 else torch.cat([part for _, part in batch])
            features = work.encode(rows).split([len(part) for _, part in batch])
        except BaseException as error:
            self._fail([work for work, _ in batch], error)
            return
        took, kind, size = time.monotonic() - started, work.lane[1], len(rows)
        with self._changed:
            before = self._seconds.get(kind, took / size)
            self._seconds[kind] = before + SMOOTHING * (took / size - before)
            if kind == "images":
                self._batch_seconds = took
                self._sizes[1 << (size - 1).bit_length()] += 1
            self._batches[kind] += 1
            self._rows[kind] += size
            self._busy_seconds += took
        for (work, _), part in zip(batch, features, strict=True):
            work.parts.append(part)
            if sum(map(len, work.parts)) == len(work.rows):
                # A copy, since a part would keep the whole batch.
                work.features.set_result(torch.cat(work.parts))

    def _fail(self, works: Sequence[Work], error: BaseException) -> None:
        with self._changed:
            for work in works:
                lane = self._lanes.get(work.lane)
                if lane is not None and work in lane:  # its other rows
                    lane.remove(work)
                    if not lane:
                        del self._lanes[work.lane]
        for work in works:
            work.features.set_exception(error)


def _take(works: deque[Work], most: int) -> list[tuple[Work, Tensor]]:
    """The next rows of a lane, as far as they fit together."""
    batch: list[tuple[Work, Tensor]] = []
    shape = works[0].rows.shape[1:]
    while works and most > 0 and works[0].rows.shape[1:] == shape:
        work = works[0]
        part = work.rows[work.taken : work.taken + most]
        work.taken += len(part)
        most -= len(part)
        batch.append((work, part))
        if work.taken == len(work.rows):
            works.popleft()
    return batch
