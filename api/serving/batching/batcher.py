"""Compute threads that batch the rows of concurrent requests to the same model.

A request hands its rows to a thread and waits. The round trip takes 60 µs. If the requests' own threads
computed the batches, each of them would start a pool of OpenMP threads.

Several batches run in parallel, each on some of the cores. That is faster than one batch at a time on all
cores, because cores that share a batch synchronise after every operation. A lone batch gets all cores.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from api.serving.batching.batch import BatchItem, QueueKey, Slice, rows_left, take
from api.serving.threads import use_threads
from api.serving.types import BatchCounts
from core.admission import ServerBusy
from core.clip.models.features import batch_rows, prompt_rows
from core.store.accounts import audit
from core.turns import Turns

MAX_BATCH_DELAY = 0.25
"""Maximum wait for images that are being decoded, as a fraction of the duration of a batch."""
MAX_BATCH_DELAY_SECONDS = 0.01
"""Maximum of the same wait (seconds)."""


@dataclass(eq=False)
class Pending:
    """A request that will submit more rows."""

    queue: QueueKey
    over: bool = False


class Batcher:
    """A fair batcher: models take turns, however many requests each has, and so do the owners of requests.

    A turn of a model is one batch, of images or prompts, from all waiting requests to it. A lone request is
    computed at once. Longer queues form larger batches.
    """

    def __init__(
        self, largest: Mapping[str, int], workers: int, encode: Callable[[QueueKey, Tensor], Tensor]
    ) -> None:
        """Start the compute threads.

        Args:
            largest: maximum rows of a batch, for `images` and `prompts`.
            workers: number of batches computed at a time, each on its own cores.
            encode: computes features [n, D] of a batch [n, ...].
        """
        self.largest = largest
        self._encode = encode
        self.workers = workers
        self.threads = torch.get_num_threads()
        self._changed = threading.Condition()
        self._queues: OrderedDict[QueueKey, Turns[BatchItem]] = OrderedDict()
        """Waiting items. The first queue has the next turn."""
        self._pending: Counter[QueueKey] = Counter()
        self._batch_seconds = 0.0
        self._batches: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._busy_seconds = 0.0
        self._computing = 0
        self._closed = False
        # One thread for lone batches and `workers` for concurrent ones, or one thread for everything.
        alone = self._is_alone if workers > 1 else lambda: bool(self._queues)
        self._start("compute", self.threads, alone)
        for i in range(workers if workers > 1 else 0):
            threads = self.threads // workers + (i < self.threads % workers)
            self._start(f"compute-{i}", max(1, threads), self._is_concurrent)

    @contextmanager
    def pending(self, queue: QueueKey) -> Iterator[Pending]:
        """Announce rows, so that a partial batch may wait briefly for them.

        The announcement ends with the last submitted rows, or with the context.
        """
        pending = Pending(queue)
        with self._changed:
            self._pending[queue] += 1
            if self._queues:  # a waiting item is no longer alone
                self._changed.notify_all()
        try:
            yield pending
        finally:
            with self._changed:
                self._end(pending)

    def submit(self, queue: QueueKey, rows: Tensor, last_of: Pending | None = None) -> BatchItem:
        """Queue rows [n, ...], n > 0. The caller must keep the model in memory until they are computed.

        Args:
            last_of: announcement that these rows end.
        """
        item = BatchItem(queue, rows, audit.actor().owner)
        with self._changed:
            if self._closed:
                raise ServerBusy("The service is stopping. Try again in a few seconds.")
            if last_of is not None:
                self._end(last_of)
            self._queues.setdefault(queue, Turns()).put(item.owner, item)
            self._changed.notify_all()
        return item

    def wait(self, item: BatchItem, seconds: float | None) -> Tensor:
        """Wait for the features [n, D] of an item.

        Raises:
            ServerBusy: only others were started within this time, and the item is withdrawn. If one batch
                takes that long, trying again would not help. Images of the same model keep its prompts
                waiting for two batches at most.
            Exception: any error of the model.
        """
        while True:
            item.passed_over = False
            try:
                return item.features.result(timeout=seconds)
            except TimeoutError:
                if item.features.done():  # the model itself raised the error
                    raise
            if item.passed_over and self.withdraw(item):
                raise ServerBusy(f"The model was busy for {seconds:g} s. Try again in a few seconds.")

    def withdraw(self, item: BatchItem) -> bool:
        """Remove an item from its queue, unless it has started. Return whether it was removed."""
        with self._changed:
            queue = self._queues.get(item.queue)
            if queue is None or item.taken or item not in queue:
                return False
            queue.remove(item.owner, item)
            if not queue:
                del self._queues[item.queue]
            if self._queues:  # another item may be alone now
                self._changed.notify_all()
            return True

    def end(self, item: BatchItem) -> None:
        """Remove an item or, if it has started, wait until it is computed."""
        if not self.withdraw(item) and item.taken:
            wait([item.features])

    def counts(self) -> BatchCounts:
        """Return the counters."""
        with self._changed:
            return BatchCounts(
                batches=dict(self._batches),
                rows=dict(self._rows),
                busy_seconds=self._busy_seconds,
            )

    def close(self) -> None:
        """Stop the threads, and end waiting items with ServerBusy."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _end(self, pending: Pending) -> None:
        if pending.over:
            return
        pending.over = True
        self._pending[pending.queue] -= 1
        if not self._pending[pending.queue]:
            del self._pending[pending.queue]
        if self._queues:
            self._changed.notify_all()

    def _start(self, name: str, threads: int, wanted: Callable[[], bool]) -> None:
        threading.Thread(target=self._run, args=(threads, wanted), name=name, daemon=True).start()

    def _run(self, threads: int, wanted: Callable[[], bool]) -> None:
        use_threads(threads)
        while (batch := self._next_batch(wanted)) is not None:
            self._compute(batch)
            del batch  # free its memory before the next wait

    def _most_rows(self, kind: str, items: Turns[BatchItem]) -> int:
        """Return the maximum number of rows in the next batch. An image has three values per pixel."""
        most, size = self.largest[kind], items.next().rows[0].numel()
        return batch_rows(most, max(1, size // 3)) if kind == "images" else prompt_rows(most, size)

    def _is_alone(self) -> bool:
        """Return whether a single batch waits, while none is computed and no rows are pending."""
        if self._computing or self._pending or len(self._queues) != 1:
            return False
        ((_, kind), items) = next(iter(self._queues.items()))
        return rows_left(items) <= self._most_rows(kind, items)

    def _is_concurrent(self) -> bool:
        return bool(self._queues) and self._computing < self.workers and not self._is_alone()

    def _next_batch(self, wanted: Callable[[], bool]) -> list[Slice] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or wanted())
            if self.workers == 1 and not self._closed:
                self._linger()
            if self._closed:
                for items in self._queues.values():
                    for item in items:
                        item.features.set_exception(
                            ServerBusy("The service is stopping. Try again in a few seconds.")
                        )
                self._queues.clear()
                return None
            if not self._queues:  # the item was withdrawn meanwhile
                return []
            queue, items = self._queues.popitem(last=False)
            batch = take(items, self._most_rows(queue[1], items))
            if items:
                self._queues[queue] = items  # last in line
            self._computing += 1
            for other, waiting in self._queues.items():
                if other == queue or other[0] != queue[0]:
                    for item in waiting:
                        item.passed_over = True
            return batch

    def _linger(self) -> None:
        """Wait for pending rows of the only queue, if its batch has room.

        Not called with several workers: concurrent small batches are as fast as one large batch.
        """
        (queue, items), *others = self._queues.items()
        largest = self._most_rows(queue[1], items)
        if others or rows_left(items) >= largest or not self._pending[queue]:
            return

        def is_complete() -> bool:
            waiting = rows_left(self._queues.get(queue, ()))
            return self._closed or len(self._queues) != 1 or not self._pending[queue] or waiting >= largest

        self._changed.wait_for(
            is_complete, min(MAX_BATCH_DELAY * self._batch_seconds, MAX_BATCH_DELAY_SECONDS)
        )

    def _compute(self, batch: Sequence[Slice]) -> None:
        if not batch:
            return
        started = time.monotonic()
        queue = batch[0].item.queue
        try:
            rows = batch[0].rows if len(batch) == 1 else torch.cat([part.rows for part in batch])
            features = self._encode(queue, rows).split([len(part.rows) for part in batch])
        except BaseException as error:
            with self._changed:
                self._done()
                self._fail({part.item for part in batch}, error)
            return
        took, kind, size = time.monotonic() - started, queue[1], len(rows)
        with self._changed:
            self._done()
            if kind == "images":
                self._batch_seconds = took
            self._batches[kind] += 1
            self._rows[kind] += size
            self._busy_seconds += took
            for part, part_features in zip(batch, features, strict=True):
                part.item.add(part.start, part_features)

    def _done(self) -> None:
        self._computing -= 1
        if self._queues:
            self._changed.notify_all()

    def _fail(self, items: Iterable[BatchItem], error: BaseException) -> None:
        for item in items:
            queue = self._queues.get(item.queue)
            if queue is not None and item in queue:  # the item has more rows
                queue.remove(item.owner, item)
                if not queue:
                    del self._queues[item.queue]
            if not item.features.done():  # other rows of the item may have failed first
                item.features.set_exception(error)
