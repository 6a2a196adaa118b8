"""Statistics of a cache."""

from collections.abc import Hashable
from dataclasses import dataclass

Key = tuple[Hashable, ...]
"""Cache key. Its first element is the kind of the value; statistics are kept per kind."""


@dataclass
class CacheStats:
    """Present contents of one kind, and counters since the start."""

    values: int = 0
    bytes: int = 0
    in_use: int = 0
    """Values in use."""
    hits: int = 0
    misses: int = 0
    loads: int = 0
    """Successful loads: fewer than misses if concurrent requests share a load."""
    load_seconds: float = 0.0
    evicted: int = 0
    """Values evicted to stay within the budget."""


@dataclass(frozen=True)
class CacheEntryInfo:
    """A value in memory."""

    key: Key
    bytes: int
    users: int
    pinned: bool
