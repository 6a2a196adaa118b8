"""Admission of requests, by the bytes and slots that they hold.

A request that finds no room is refused, or waits for its turn: owners take turns, so that many requests of
one owner do not delay another's. Where requests are refused, one owner holds at most half. A request alone is
always admitted, whatever it needs: its size has other limits.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager

from core.errors import ClipCiteError


class ServerBusy(ClipCiteError):
    """A request that is refused because of overload or shutdown."""

    code = "busy"
    status = 503

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Limit:
    """A quantity of which all requests hold at most `most`, and those of one owner `share` of it."""

    def __init__(
        self,
        most: int,
        busy: str = "Too many requests like this one are waiting.",
        seconds_to_wait: Callable[[], int] = lambda: 5,
        share: float = 0.5,
    ) -> None:
        """Make a limit.

        Args:
            busy: sentence of a refusal.
            seconds_to_wait: returns the `Retry-After` of a refusal.
            share: the most that one owner holds; 1 if all requests wait, in turns.
        """
        self.most = most
        self.share = share
        self.busy = busy
        self.seconds_to_wait = seconds_to_wait
        self.held = 0
        self.refused = 0
        """Number of refused requests."""
        self._by_owner: Counter[str] = Counter()

    def is_full(self, size: int, mine: int) -> bool:
        """Return whether a request that holds `mine` finds no room for `size` more beside all others."""
        return size > 0 and self.held > mine and self.held + size > self.most

    def exceeds_share(self, owner: str, size: int, mine: int) -> bool:
        """Return whether such a request finds no room beside the others of its owner."""
        own = self._by_owner[owner]
        return size > 0 and own > mine and own + size > max(1, int(self.share * self.most))

    def add(self, owner: str, size: int) -> None:
        """Count what a request takes, or gives back if `size` is negative."""
        self.held += size
        self._by_owner[owner] += size
        if not self._by_owner[owner]:
            del self._by_owner[owner]

    def refuse(self) -> ServerBusy:
        """Count a refusal and return its error."""
        self.refused += 1
        wait = self.seconds_to_wait()
        return ServerBusy(f"{self.busy} Try again in {wait} s.", wait)


class Grant:
    """The room that one request holds."""

    def __init__(self, admission: "Admission", owner: str) -> None:
        self.owner = owner
        self.bytes = 0
        self.slots = 0
        self._admission = admission

    def take(self, *, bytes: int = 0, slots: int = 0) -> None:
        """Hold more, without waiting. Negative numbers give room back.

        Raises:
            ServerBusy: other requests hold the room. Nothing is taken then.
        """
        self._admission.take(self, bytes, slots)

    @contextmanager
    def more(self, *, bytes: int = 0, slots: int = 0) -> Iterator[None]:
        """Hold more until the end of the context. Raise ServerBusy like `take`."""
        self.take(bytes=bytes, slots=slots)
        try:
            yield
        finally:
            self.take(bytes=-bytes, slots=-slots)


class _Waiting:
    """A request in line."""

    def __init__(self, grant: Grant, bytes: int, slots: int) -> None:
        self.grant = grant
        self.bytes = bytes
        self.slots = slots
        self.admitted: Future[None] = Future()


class Admission:
    """The bytes and slots of all requests. It may be used by any thread and any event loop."""

    def __init__(self, *, bytes: Limit | None = None, slots: Limit | None = None) -> None:
        """Make an admission. Without a limit, that quantity is only counted."""
        self.bytes = bytes or Limit(1 << 62)
        self.slots = slots or Limit(1 << 62)
        self._lock = threading.Lock()
        self._lines: dict[str, deque[_Waiting]] = {}
        """Requests in order of arrival, by owner in order of turns."""

    @contextmanager
    def admit(self, owner: str, *, bytes: int = 0, slots: int = 0, wait: float = 0) -> Iterator[Grant]:
        """Hold room for a request until the end of the context.

        Args:
            wait: seconds to wait for the turn, in this thread.

        Raises:
            ServerBusy: other requests hold the room.
        """
        grant = Grant(self, owner)
        waiting = self._begin(grant, bytes, slots, wait)
        try:
            if waiting is not None:
                with self._in_line(waiting):
                    waiting.admitted.result(wait)
            yield grant
        finally:
            self._end(grant)

    @asynccontextmanager
    async def admit_here(self, owner: str, *, slots: int, wait: float) -> AsyncIterator[Grant]:
        """Hold room like `admit`. The event loop goes on while the request waits."""
        grant = Grant(self, owner)
        waiting = self._begin(grant, 0, slots, wait)
        try:
            if waiting is not None:
                with self._in_line(waiting):
                    async with asyncio.timeout(wait):
                        await asyncio.wrap_future(waiting.admitted)
            yield grant
        finally:
            self._end(grant)

    @contextmanager
    def _in_line(self, waiting: _Waiting) -> Iterator[None]:
        """Withdraw a request whose wait fails. Raise ServerBusy if it took too long."""
        try:
            yield
        except TimeoutError:
            raise self._withdraw(waiting) from None
        except BaseException:
            self._withdraw(waiting)
            raise

    def check(self) -> None:
        """Raise ServerBusy if no request would find room now, whatever its size."""
        with self._lock:
            for limit in (self.bytes, self.slots):
                if limit.held >= limit.most:
                    raise limit.refuse()

    def take(self, grant: Grant, bytes: int, slots: int) -> None:
        """Add to a grant; see `Grant.take`."""
        with self._lock:
            limit = self._full(grant, bytes, slots) or self._above_share(grant, bytes, slots)
            if limit is not None:
                raise limit.refuse()
            self._add(grant, bytes, slots)
            if bytes < 0 or slots < 0:
                self._admit_next()

    def _begin(self, grant: Grant, bytes: int, slots: int, wait: float) -> _Waiting | None:
        """Take the room, or get in line and return the place."""
        if wait <= 0:
            if self._lines and bytes + slots > 0:  # those in line come first
                raise (self.bytes if bytes else self.slots).refuse()
            self.take(grant, bytes, slots)
            return None
        with self._lock:
            waiting = _Waiting(grant, bytes, slots)
            self._lines.setdefault(grant.owner, deque()).append(waiting)
            self._admit_next()
        return None if waiting.admitted.done() else waiting

    def _end(self, grant: Grant) -> None:
        with self._lock:
            self._add(grant, -grant.bytes, -grant.slots)
            self._admit_next()

    def _withdraw(self, waiting: _Waiting) -> ServerBusy:
        """Leave the line, and return the refusal. The request may have been admitted meanwhile."""
        with self._lock:
            waiting.admitted.cancel()
            line = self._lines.get(waiting.grant.owner, deque())
            if waiting in line:
                line.remove(waiting)
                if not line:
                    del self._lines[waiting.grant.owner]
                self._admit_next()  # it may have been the first in line
            room = (waiting.grant, waiting.bytes, waiting.slots)
            return (self._full(*room) or self._above_share(*room) or self.slots).refuse()

    def _admit_next(self) -> None:
        """Admit requests in line, in turns. Those that wait for another owner's room are not overtaken."""
        admitted = True
        while admitted:
            admitted = False
            for owner, line in list(self._lines.items()):
                first = line[0]
                if self._above_share(first.grant, first.bytes, first.slots) is not None:
                    continue
                if self._full(first.grant, first.bytes, first.slots) is not None:
                    return
                del self._lines[owner]
                line.popleft()
                if line:
                    self._lines[owner] = line  # last in turn
                if first.admitted.set_running_or_notify_cancel():  # its event loop did not cancel it
                    self._add(first.grant, first.bytes, first.slots)
                    first.admitted.set_result(None)
                admitted = True

    def _full(self, grant: Grant, bytes: int, slots: int) -> Limit | None:
        """Return the limit that others leave too little of."""
        if self.bytes.is_full(bytes, grant.bytes):
            return self.bytes
        return self.slots if self.slots.is_full(slots, grant.slots) else None

    def _above_share(self, grant: Grant, bytes: int, slots: int) -> Limit | None:
        """Return the limit of which the owner's other requests leave too little."""
        if self.bytes.exceeds_share(grant.owner, bytes, grant.bytes):
            return self.bytes
        return self.slots if self.slots.exceeds_share(grant.owner, slots, grant.slots) else None

    def _add(self, grant: Grant, bytes: int, slots: int) -> None:
        grant.bytes += bytes
        grant.slots += slots
        self.bytes.add(grant.owner, bytes)
        self.slots.add(grant.owner, slots)
