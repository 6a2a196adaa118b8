"""Separate thread limits per kind of blocking work, so that one kind that stalls does not block the others.

Within a kind, owners take turns, so that many requests of one owner do not delay another's. No route is a
plain function: FastAPI would run it in AnyIO's default threads, which are assigned in order of arrival.
"""

import asyncio
import functools
import os
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from core.admission import ServerBusy
from core.store.accounts import audit

P = ParamSpec("P")
T = TypeVar("T")
H = TypeVar("H", bound=Hashable)
CORES = os.cpu_count() or 1
WAIT_SECONDS = 10.0
UPLOAD_SECONDS = 300.0
"""Maximum wait of an upload or export for its turn. An upload of 5,000 images takes minutes."""


class Turns:
    """Limit on concurrent calls in one event loop. At the limit, calls wait and owners take turns.

    An owner leaves one place free for others: its calls may take minutes. Calls without an owner ("") may
    take all places.
    """

    def __init__(self, max_calls: int, wait_seconds: float) -> None:
        self._free = max_calls
        self._max_per_owner = max(1, max_calls - 1)
        self._wait_seconds = wait_seconds
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Calls in order of arrival, by owner in order of turns."""

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. Raise ServerBusy after `wait_seconds`."""
        if self._has_place(owner):
            self._begin(owner)
        else:
            called = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(owner, deque()).append(called)
            try:
                async with asyncio.timeout(self._wait_seconds):
                    await called
            except (asyncio.CancelledError, TimeoutError) as error:
                if not called.cancelled():  # it was both called and cancelled
                    self._end(owner)
                if isinstance(error, TimeoutError):
                    raise ServerBusy(
                        "Too many requests like this one are waiting. Try again in 5 s."
                    ) from None
                raise
        try:
            yield
        finally:
            self._end(owner)

    def _has_place(self, owner: str) -> bool:
        return self._free > 0 and (not owner or self._running[owner] < self._max_per_owner)

    def _begin(self, owner: str) -> None:
        self._free -= 1
        self._running[owner] += 1

    def _end(self, owner: str) -> None:
        self._free += 1
        self._running[owner] -= 1
        self._running += Counter()  # drops those at 0
        for waiting in list(self._waiting):
            if self._has_place(waiting):
                self._call_next(waiting)

    def _call_next(self, owner: str) -> None:
        calls = self._waiting.pop(owner)
        while calls:
            called = calls.popleft()
            if not called.done():  # its request was not cancelled
                self._begin(owner)
                called.set_result(None)
                break
        if calls:
            self._waiting[owner] = calls  # last in line


class OfLoop:
    """Calls of one kind in one event loop."""

    def __init__(self, max_threads: int, wait_seconds: float) -> None:
        self.turns = Turns(max_threads, wait_seconds)
        self.limiter = CapacityLimiter(max_threads)
        """Never waits, because of the turns. Without one, AnyIO's own limit would count."""
        self.shared: dict[Any, asyncio.Future[Any]] = {}
        """Shared calls that have not begun."""


class Threads:
    """Limit on concurrent calls in threads. Calls wait for their turn without a thread."""

    def __init__(self, name: str, max_threads: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.max_threads = max_threads
        self._wait_seconds = wait_seconds
        self._of_loop = RunVar[OfLoop](name)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread, when it is the owner's turn.

        Raises:
            ServerBusy: the turn does not come in time.
        """
        return await self._run(audit.actor().owner, functools.partial(function, *args, **kwargs))

    async def run_shared(self, function: Callable[[H], T], argument: H) -> T:
        """Like `run`, for a call before the owner is known.

        Calls of the same function with the same argument share one that has not begun. None gets a result
        that is older than itself.
        """
        shared, key = self._here().shared, (function, argument)

        def call() -> T:
            shared.pop(key)  # later calls need one of their own
            return function(argument)

        waiting = shared.get(key)
        if waiting is None or waiting.done():  # ended before `call`: no thread could be started
            waiting = shared[key] = asyncio.ensure_future(self._run("", call))
        result: T = await asyncio.shield(waiting)
        return result

    def runs(self, function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Wrap a blocking function as a coroutine function, for use as a route."""

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.run(function, *args, **kwargs)

        return run

    async def _run(self, owner: str, call: Callable[[], T]) -> T:
        here = self._here()
        async with here.turns.turn(owner):
            return await anyio.to_thread.run_sync(call, limiter=here.limiter)

    def _here(self) -> OfLoop:
        try:
            return self._of_loop.get()
        except LookupError:
            here = OfLoop(self.max_threads, self._wait_seconds)
            self._of_loop.set(here)
            return here


DATABASE = Threads("database", 16)
"""Routes that read or change only the database."""
EXPORTS = Threads("exports", 8, UPLOAD_SECONDS)
FILES = Threads("files", 8)
"""Routes that read, make or delete files."""
KEY_LOOKUPS = Threads("key look-ups", 8)
"""Requests with the same key share a call, so that each key has at most one in line."""
PARSING = Threads("parsing", CORES + 1)
SPOOLING = Threads("spooling", 8, UPLOAD_SECONDS)
"""Disk access of uploaded form files."""
UPLOADS = Threads("uploads", CORES + 1, UPLOAD_SECONDS)
"""Routes that check and store an upload."""
