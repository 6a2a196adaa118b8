"""What a cache tells of itself."""

from collections.abc import Hashable
from dataclasses import dataclass

Key = tuple[Hashable, ...]
"""Of a value. The first says of what kind it is: what is counted is counted by kind."""


@dataclass
class CacheStats:
    """What a cache holds of one kind now, and what it has done since its start."""

    values: int = 0
    bytes: int = 0
    in_use: int = 0
    """Of the values."""
    hits: int = 0
    misses: int = 0
    loads: int = 0
    """Successful ones: fewer than misses when many ask for the same."""
    load_seconds: float = 0.0
    evicted: int = 0
    """For want of room."""


@dataclass(frozen=True)
class Held:
    """A value that is in memory."""

    key: Key
    bytes: int
    users: int
    pinned: bool
