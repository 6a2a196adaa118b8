"""A cache with a budget of bytes, for values that cost little to make again."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """Values by key. The least recently used are evicted first; one above the whole budget is not kept."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Key, value: Value, size: int) -> Value:
        """Keep a value of so many bytes. Return the value for the key, which another thread may have put."""
        with self._lock:
            if key in self._kept:
                return self._kept[key][0]
            if size <= self.budget_bytes:
                self._kept[key] = value, size
                self.bytes += size
            while self.bytes > self.budget_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self.bytes -= freed
            return value
