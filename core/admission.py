"""Budgets of this process for requests in flight. One owner may use at most half of a budget.

A request gets its part at once, or is refused. It never waits.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from core.errors import ExpectedError

T = TypeVar("T")
Take = Callable[[int], None]
"""Function that takes more of a budget for a request that already holds a part. Raises ServerBusy."""


TURN_SECONDS, RETRY_SECONDS = 60.0, 1.0
"""Maximum time for retries of a part of long work, and pause between two (seconds)."""


class ServerBusy(ExpectedError):
    """The request is refused because of overload or shutdown."""

    code = "busy"
    status = 503

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


def patiently(work: Callable[[], T], seconds: float = TURN_SECONDS) -> T:
    """Do a part of long work, and try again while the service is overloaded, for so many seconds.

    Raises:
        ServerBusy: it is still overloaded.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return work()
        except ServerBusy:
            if time.monotonic() > until:
                raise
            time.sleep(RETRY_SECONDS)


class Budget:
    """A shared capacity. One owner may use at most half of it."""

    def __init__(
        self, most: int, busy: str = "Too many requests like this one are in progress.", retry_after: int = 5
    ) -> None:
        """Create an unused budget. `busy` is the first sentence of a refusal."""
        self.most = most
        self.busy = busy
        self.retry_after = retry_after
        self.held = 0
        self.refused = 0
        """Number of refused requests."""
        self._by_owner: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def share(self) -> int:
        """Maximum for one owner."""
        return max(1, self.most // 2)

    @contextmanager
    def hold(self, owner: str, size: int = 0) -> Iterator[Take]:
        """Hold a part for a request until the context ends. Yield the function that takes more.

        A request counts as at most one owner's share, so a lone request is always admitted. Its size is
        limited elsewhere.

        Raises:
            ServerBusy: other requests hold too much.
        """
        mine = 0

        def take(more: int) -> None:
            nonlocal mine
            more = min(more, self.share - mine)
            self._add(owner, more)
            mine += more

        try:
            take(size)
            yield take
        finally:
            self._add(owner, -mine)

    def check(self) -> None:
        """Raise ServerBusy if nothing is left."""
        with self._lock:
            if self.held >= self.most:
                raise self._refusal()

    def _add(self, owner: str, size: int) -> None:
        with self._lock:
            used = self._by_owner[owner] + size
            if size > 0 and (used > self.share or self.held + size > self.most):
                raise self._refusal()
            self.held += size
            self._by_owner[owner] = used
            if not used:
                del self._by_owner[owner]

    def _refusal(self) -> ServerBusy:
        self.refused += 1
        return ServerBusy(f"{self.busy} Try again in {self.retry_after} s.", self.retry_after)
