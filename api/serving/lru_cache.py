"""Cache of values that are cheap to recompute."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class LruCache:
    """A thread-safe LRU cache of values that are cheap to recompute.

    A value that exceeds the whole budget is not kept. A value in use may be evicted, and two requests may
    compute the same value. `pool.cache.WarmCache` is for values where either would cost too much.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Any:
        """Return the value for the key, or None."""
        with self._lock:
            entry = self._kept.get(key)
            if entry is None:
                return None
            self._kept.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of `size` bytes, unless the key has one."""
        with self._lock:
            if key in self._kept:
                return
            if size <= self.budget_bytes:
                self._kept[key] = value, size
                self.bytes += size
            while self.bytes > self.budget_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self.bytes -= freed
