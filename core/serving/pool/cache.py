"""Warm things by key under one budget of bytes, lent out, and loaded once however many ask for the same."""

import ctypes
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Generic, TypeVar

from core.clip.weights.flat import reuse_memory
from core.errors import ClipCiteError
from core.serving.pool.cache_stats import CacheStats, Held, Key

Value = TypeVar("Value")
LOADERS = 8
TRIM_SECONDS = 5.0
"""Between two returns of freed memory to the system, each of which takes some milliseconds."""


class StillLoading(ClipCiteError):
    """Ask again: the loading goes on meanwhile."""

    code = "model_loading"
    status = 503
    retry_after = 5

    def __init__(self, what: str = "The model") -> None:
        super().__init__(f"{what} is still being loaded. Ask again in a few seconds.")


class _Entry(Generic[Value]):
    """One value, or one that is being loaded."""

    def __init__(self, key: Key, expected_bytes: int) -> None:
        self.key = key
        self.future: Future[Value] = Future()
        self.bytes = expected_bytes
        self.admitted = False
        """Whether its bytes are counted."""
        self.users = 1  # the loading itself
        self.pins = 0
        self.forgotten = False
        """Nobody finds it any more; it goes with its last user."""


class WarmCache(Generic[Value]):
    """The least recently used goes first. What somebody uses is never dropped, so that the bytes are at
    most the budget or, where that is more, what is in use; and a value is loaded only when there is room
    for it beside what others use, or nobody uses any."""

    def __init__(
        self,
        budget_bytes: int,
        size_of: Callable[[Value], int],
        *,
        waits_for_room: bool = True,
        on_drop: Callable[[Value], None] = lambda value: None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._size_of = size_of
        self._waits_for_room = waits_for_room
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._unfound: set[_Entry[Value]] = set()  # forgotten, and still used
        self._bytes = 0
        self._counts: dict[Hashable, CacheStats] = {}
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="loader")
        self._closed = False
        self._trimmed = -TRIM_SECONDS

    @contextmanager
    def acquire(
        self,
        key: Key,
        load: Callable[[], Value],
        *,
        wait_seconds: float | None,
        expected_bytes: int = 0,
        pin: bool = False,
    ) -> Iterator[Value]:
        """The value of `key`, which stays in memory until the context is left.

        Args:
            load: makes the value when it is not there.
            wait_seconds: for how long others may load it. None: this thread does so itself, now, for as
                long as it takes, unless another is at it; only for what a load needs.
            expected_bytes: what the value will count as while it is being made.
            pin: held for good, which keeps others from waiting until it is given back.

        Raises:
            StillLoading: it takes longer than `wait_seconds`.
            Whatever `load` raises. The next one who asks tries again.
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
            entry.pins += pin
            self._entries.move_to_end(key)
        try:
            if new:
                self._start(entry, load, here=wait_seconds is None)
            if not wait([entry.future], timeout=wait_seconds).done:
                raise StillLoading
            yield entry.future.result()
        finally:
            self._give_back(entry, pin)

    def has(self, key: Key) -> bool:
        with self._changed:
            entry = self._entries.get(key)
            return entry is not None and entry.future.done()

    def touch(self, key: Key) -> None:
        """As if it was used, if it is there."""
        with self._changed:
            if key in self._entries:
                self._entries.move_to_end(key)

    def forget(self, where: Callable[[Key], bool]) -> None:
        """Let go of the values whose key fits, and of those that are being loaded: at once, or when nobody
        uses them any more."""
        with self._changed:
            found = [entry for key, entry in self._entries.items() if where(key)]
            for entry in found:
                del self._entries[entry.key]
                entry.forgotten = True
                if entry.users:
                    self._unfound.add(entry)
            gone = [entry for entry in found if not entry.users]
            self._uncount(gone)
        self._let_go(gone)

    def counts(self, kind: Hashable) -> CacheStats:
        with self._changed:
            of_kind = [e for e in self._all() if e.key[0] == kind]
            return replace(
                self._counts_of((kind,)),
                values=len(of_kind),
                bytes=sum(e.bytes for e in of_kind),
                in_use=sum(e.users > 0 for e in of_kind),
            )

    def held(self) -> list[Held]:
        """All that is in memory, least recently used first."""
        with self._changed:
            return [Held(e.key, e.bytes, e.users, e.pins > 0) for e in self._all()]

    def values(self) -> list[tuple[Value, int]]:
        """Likewise, each with the number of its users."""
        with self._changed:
            return [(e.future.result(), e.users) for e in self._all()]

    @property
    def bytes(self) -> int:
        """With what is being loaded, and what was forgotten and is still used."""
        with self._changed:
            return self._bytes

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    def _all(self) -> list[_Entry[Value]]:
        return [e for e in (*self._unfound, *self._entries.values()) if e.admitted and e.future.done()]

    def _counts_of(self, key: Key) -> CacheStats:
        return self._counts.setdefault(key[0], CacheStats())

    def _start(self, entry: _Entry[Value], load: Callable[[], Value], *, here: bool) -> None:
        if here:
            self._load(entry, load, patient=False)
            return
        try:
            submitted = self._loaders.submit(self._load, entry, load, patient=self._waits_for_room)
        except RuntimeError:  # closed
            self._failed(entry, StillLoading())
        else:
            submitted.add_done_callback(
                lambda done: self._failed(entry, StillLoading()) if done.cancelled() else None
            )

    def _load(self, entry: _Entry[Value], load: Callable[[], Value], *, patient: bool) -> None:
        with self._changed:
            if patient:
                self._changed.wait_for(lambda: self._closed or self._fits(entry))
            entry.admitted = True
            self._bytes += entry.bytes
            gone = self._make_room()
        started = time.monotonic()
        try:
            with reuse_memory(entry.bytes):
                self._let_go(gone)
                value = load()
        except BaseException as error:
            self._failed(entry, error)
            return
        with self._changed:
            counts = self._counts_of(entry.key)
            counts.loads += 1
            counts.load_seconds += time.monotonic() - started
            self._bytes -= entry.bytes
            entry.bytes = self._size_of(value)
            self._bytes += entry.bytes
            entry.future.set_result(value)
        self._give_back(entry)

    def _failed(self, entry: _Entry[Value], error: BaseException) -> None:
        with self._changed:
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
            self._unfound.discard(entry)
            entry.forgotten = True
            self._uncount([entry])
            entry.future.set_exception(error)
            entry.users -= 1
            self._changed.notify_all()

    def _give_back(self, entry: _Entry[Value], pin: bool = False) -> None:
        with self._changed:
            entry.users -= 1
            entry.pins -= pin
            gone = self._make_room()
            if entry.forgotten and not entry.users and entry in self._unfound:
                self._unfound.discard(entry)
                self._uncount([entry])
                gone.append(entry)
            self._changed.notify_all()
        self._let_go(gone)

    def _fits(self, entry: _Entry[Value]) -> bool:
        """Beside what is used and can't make room. Pinned values must not keep all others out."""
        used = [e for e in (*self._unfound, *self._entries.values()) if e.admitted and e.users]
        in_the_way = sum(e.bytes for e in used) + entry.bytes > self.budget_bytes
        return not in_the_way or not any(e.users > e.pins for e in used)

    def _make_room(self) -> list[_Entry[Value]]:
        gone: list[_Entry[Value]] = []
        too_many = self._bytes - self.budget_bytes
        for entry in self._entries.values():
            if too_many <= 0:
                break
            if not entry.users:
                gone.append(entry)
                too_many -= entry.bytes
        for entry in gone:
            del self._entries[entry.key]
            self._counts_of(entry.key).evicted += 1
        self._uncount(gone)
        return gone

    def _uncount(self, entries: list[_Entry[Value]]) -> None:
        for entry in entries:
            self._bytes -= entry.bytes if entry.admitted else 0
            entry.admitted = False

    def _let_go(self, entries: list[_Entry[Value]]) -> None:
        """Without the lock: freeing much memory takes its time."""
        if not entries:
            return
        while entries:
            self._on_drop(entries.pop().future.result())
        with self._changed:
            due = time.monotonic() - self._trimmed >= TRIM_SECONDS
            if due:
                self._trimmed = time.monotonic()
        if due:  # else the C library keeps hundreds of MB between tensors that live long
            with suppress(OSError, AttributeError, TypeError):  # another C library, or another system
                ctypes.CDLL(None).malloc_trim(0)
