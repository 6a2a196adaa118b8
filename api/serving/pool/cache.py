"""Cache of loaded values with a byte budget. Values in use are kept. Concurrent requests share one load."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from core.clip.weights.flat import reuse_memory
from core.errors import ExpectedError

Value = TypeVar("Value")
Key = tuple[Hashable, ...]
"""Cache key. Its first element is the kind of the value, for statistics per kind."""
LOADERS = 8
PATIENCE_SECONDS = 5.0


@dataclass
class CacheStats:
    """Counters of one kind of values since the start."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    """Values evicted to stay within the budget."""


class StillLoading(ExpectedError):
    """A value is not loaded in time. Loading continues."""

    code = "model_loading"
    status = 503
    retry_after = 5

    def __init__(self, what: str = "The model") -> None:
        super().__init__(f"{what} is still being loaded. Try again in a few seconds.")


class _Entry(Generic[Value]):
    """A value, loaded or being loaded."""

    def __init__(self, key: Key, expected_bytes: int) -> None:
        self.key = key
        self.future: Future[Value] = Future()
        self.bytes = expected_bytes
        self.admitted = False
        """True once the bytes count towards the budget."""
        self.users = 1  # the load itself counts as a user
        self.forgotten = False
        """True if the key was removed. The value is dropped with its last user."""


class WarmCache(Generic[Value]):
    """An LRU cache that never evicts values in use.

    The size is at most the budget or, if larger, the size of the values in use. A load starts when its value
    fits beside the values in use, or when no value is in use. A value that does not fit is loaded after
    `patience_seconds`, one such value at a time.
    """

    def __init__(
        self,
        budget_bytes: int,
        size_of: Callable[[Value], int],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        on_drop: Callable[[Value], None] = lambda value: None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._size_of = size_of
        self._patience_seconds = patience_seconds
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._orphans: set[_Entry[Value]] = set()  # forgotten, but still in use
        self._excess: _Entry[Value] | None = None
        """The value that was loaded after `patience_seconds`, although it did not fit."""
        self._bytes = 0
        self._counts: dict[Hashable, CacheStats] = {}
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="loader")
        self._closed = False

    @contextmanager
    def acquire(
        self,
        key: Key,
        load: Callable[[], Value],
        *,
        wait_seconds: float | None,
        expected_bytes: int = 0,
    ) -> Iterator[Value]:
        """Hold the value of `key` in memory until the context ends.

        Args:
            load: creates the value on a miss.
            wait_seconds: maximum wait for a load in another thread. None: load in this thread and without
                a limit, unless a load is in progress. Use None only within a load.
            expected_bytes: size that counts during the load.

        Raises:
            StillLoading: loading takes longer than `wait_seconds`.
            Exception: any error of `load`. The next call loads again.
        """
        with self._changed:
            entry = self._entries.get(key)
            counts = self._counts_of(key)
            new = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry(key, expected_bytes)
            if entry.future.done():
                counts.hits += 1
            else:
                counts.misses += 1
            entry.users += 1
            self._entries.move_to_end(key)
        try:
            if new:
                self._start(entry, load, here=wait_seconds is None)
            if not wait([entry.future], timeout=wait_seconds).done:
                raise StillLoading
            yield entry.future.result()
        finally:
            self._release(entry)

    def has(self, key: Key) -> bool:
        """Return whether the value is loaded."""
        with self._changed:
            entry = self._entries.get(key)
            return entry is not None and entry.future.done()

    def forget(self, where: Callable[[Key], bool]) -> None:
        """Drop the values whose key satisfies `where`, including those being loaded.

        A value in use is dropped by its last user.
        """
        with self._changed:
            matching = [entry for key, entry in self._entries.items() if where(key)]
            for entry in matching:
                del self._entries[entry.key]
                entry.forgotten = True
                if entry.users:
                    self._orphans.add(entry)
            gone = [entry for entry in matching if not entry.users]
            self._uncount(gone)
        self._free(gone)

    def counts(self, kind: Hashable) -> CacheStats:
        """Return the statistics of one kind of values."""
        with self._changed:
            return replace(self._counts_of((kind,)))

    @property
    def bytes(self) -> int:
        """Size of all values, including those being loaded and forgotten ones still in use."""
        with self._changed:
            return self._bytes

    def close(self) -> None:
        """Refuse new loads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    def _counts_of(self, key: Key) -> CacheStats:
        return self._counts.setdefault(key[0], CacheStats())

    def _start(self, entry: _Entry[Value], load: Callable[[], Value], *, here: bool) -> None:
        if here:
            self._load(entry, load, patient=False)
            return
        try:
            submitted = self._loaders.submit(self._load, entry, load, patient=True)
        except RuntimeError:  # closed
            self._failed(entry, StillLoading())
        else:
            submitted.add_done_callback(
                lambda done: self._failed(entry, StillLoading()) if done.cancelled() else None
            )

    def _load(self, entry: _Entry[Value], load: Callable[[], Value], *, patient: bool) -> None:
        with self._changed:
            if patient:
                self._wait_for_room(entry)
            entry.admitted = True
            self._bytes += entry.bytes
            gone = self._make_room()
        try:
            with reuse_memory(entry.bytes):
                self._free(gone)
                value = load()
        except BaseException as error:
            self._failed(entry, error)
            return
        with self._changed:
            self._bytes -= entry.bytes
            entry.bytes = self._size_of(value)
            self._bytes += entry.bytes
            entry.future.set_result(value)
        self._release(entry)

    def _wait_for_room(self, entry: _Entry[Value]) -> None:
        """Wait until the value fits, or may be loaded although it does not. The caller holds the lock."""
        if self._changed.wait_for(lambda: self._closed or self._fits(entry), self._patience_seconds):
            return
        self._changed.wait_for(lambda: self._closed or self._fits(entry) or self._excess is None)
        if not self._closed and not self._fits(entry):
            self._excess = entry

    def _failed(self, entry: _Entry[Value], error: BaseException) -> None:
        with self._changed:
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
            self._orphans.discard(entry)
            entry.forgotten = True
            self._uncount([entry])
            if entry is self._excess:
                self._excess = None
            entry.future.set_exception(error)
            entry.users -= 1
            self._changed.notify_all()

    def _release(self, entry: _Entry[Value]) -> None:
        with self._changed:
            entry.users -= 1
            if entry is self._excess and not entry.users:
                self._excess = None
            gone = self._make_room()
            if entry.forgotten and not entry.users and entry in self._orphans:
                self._orphans.discard(entry)
                self._uncount([entry])
                gone.append(entry)
            self._changed.notify_all()
        self._free(gone)

    def _fits(self, entry: _Entry[Value]) -> bool:
        """Return whether the value fits beside those in use, or no value is in use."""
        used = [e for e in (*self._orphans, *self._entries.values()) if e.admitted and e.users]
        return not used or sum(e.bytes for e in used) + entry.bytes <= self.budget_bytes

    def _make_room(self) -> list[_Entry[Value]]:
        gone: list[_Entry[Value]] = []
        excess = self._bytes - self.budget_bytes
        for entry in self._entries.values():
            if excess <= 0:
                break
            if not entry.users:
                gone.append(entry)
                excess -= entry.bytes
        for entry in gone:
            del self._entries[entry.key]
            self._counts_of(entry.key).evicted += 1
        self._uncount(gone)
        return gone

    def _uncount(self, entries: list[_Entry[Value]]) -> None:
        for entry in entries:
            self._bytes -= entry.bytes if entry.admitted else 0
            entry.admitted = False

    def _free(self, entries: list[_Entry[Value]]) -> None:
        """Free values. Call this without the lock, because freeing much memory takes time."""
        while entries:
            self._on_drop(entries.pop().future.result())
