"""Warm things by key under a budget of bytes, loaded once however many ask at the same time."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from core.clip.errors import ClipCiteError

Value = TypeVar("Value")
MOST = 100  # values: some cost no bytes of their own


class StillLoading(ClipCiteError):
    """Ask again: the loading goes on meanwhile."""

    code = "model_loading"
    status = 503
    retry_after = 5


@dataclass
class CacheCounts:
    """What a cache holds now, and what it has done since its start."""

    values: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0
    loads: int = 0
    """Successful ones: fewer than misses when many ask for the same."""
    load_seconds: float = 0.0
    dropped: int = 0
    """For want of room."""


class WarmCache(Generic[Value]):
    """Least recently used goes first when the budget is exceeded; the newest always stays. What was
    dropped lives on in the hands of those who use it."""

    def __init__(self, budget_bytes: int, size_of: Callable[[Value], int]) -> None:
        self._budget = budget_bytes
        self._size_of = size_of
        self._lock = threading.Lock()
        self._warm: OrderedDict[Hashable, Value] = OrderedDict()
        self._loading: dict[Hashable, Future[Value]] = {}
        self._counts = CacheCounts()
        self._loader = ThreadPoolExecutor(max_workers=2, thread_name_prefix="loader")

    def get(self, key: Hashable, load: Callable[[], Value], *, wait_seconds: float | None) -> Value:
        """The value of `key`; `load` makes it when it is not warm.

        Raises:
            StillLoading: it takes longer than `wait_seconds` (None waits to the end).
            Whatever `load` raises. The next call tries again.
        """
        with self._lock:
            if key in self._warm:
                self._counts.hits += 1
                self._warm.move_to_end(key)
                return self._warm[key]
            self._counts.misses += 1
            future = self._loading.get(key)
            if future is None:
                future = self._loader.submit(self._load, key, load)
                self._loading[key] = future
        if not wait([future], timeout=wait_seconds).done:
            raise StillLoading("The model is still being loaded. Ask again in a few seconds.")
        return future.result()

    def drop(self, where: Callable[[Hashable], bool]) -> None:
        """Forget the values whose key fits."""
        with self._lock:
            for key in [key for key in self._warm if where(key)]:
                del self._warm[key]

    def counts(self) -> CacheCounts:
        with self._lock:
            held = sum(map(self._size_of, self._warm.values()))
            return replace(self._counts, values=len(self._warm), bytes=held)

    def close(self) -> None:
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _load(self, key: Hashable, load: Callable[[], Value]) -> Value:
        started = time.monotonic()
        try:
            value = load()
        except BaseException:
            with self._lock:
                del self._loading[key]
            raise
        with self._lock:
            del self._loading[key]
            self._counts.loads += 1
            self._counts.load_seconds += time.monotonic() - started
            self._warm[key] = value
            total = sum(map(self._size_of, self._warm.values()))
            while (total > self._budget or len(self._warm) > MOST) and len(self._warm) > 1:
                _, dropped = self._warm.popitem(last=False)
                total -= self._size_of(dropped)
                self._counts.dropped += 1
        return value
