"""A limit on the bytes that the requests of a process hold, half of it per owner."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import ClipCiteError


class ByteLimit:
    """Counts the bytes of all requests. By itself, it refuses no request because of its own size."""

    busy: type[ClipCiteError]
    """The error if other requests take the space, made without arguments."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def share(self, owner: str) -> Iterator["ByteShare"]:
        """Count the bytes of a request, until the end of the context."""
        share = ByteShare(self, owner)
        try:
            yield share
        finally:
            share.take(-share.bytes)

    def check(self, share: "ByteShare", size: int) -> None:
        """Raise `busy` if there is no room for more bytes of a request. The caller holds the lock."""
        total, own = self._held.total(), self._held[share.owner]
        is_full = total > share.bytes and total + size > self.max_bytes
        if is_full or (own > share.bytes and own + size > self.max_bytes // 2):
            raise self.busy()

    def add(self, owner: str, size: int) -> None:
        """Count bytes of an owner. The caller holds the lock."""
        self._held[owner] += size
        self._held += Counter()  # drops those at 0


class ByteShare:
    """The bytes of one request."""

    def __init__(self, limit: ByteLimit, owner: str) -> None:
        self.owner = owner
        self.bytes = 0
        self._limit = limit

    def check(self, size: int) -> None:
        """Raise the errors of the limit if there is no room for more bytes."""
        with self._limit.lock:
            self._limit.check(self, size)

    def take(self, size: int) -> None:
        """Count bytes before they are held or written. A negative size gives bytes back.

        Raises:
            ClipCiteError, OSError: those of the limit. Nothing is counted then.
        """
        with self._limit.lock:
            if size > 0:
                self._limit.check(self, size)
            self._limit.add(self.owner, size)
            self.bytes += size
