"""Separate thread limits per kind of blocking work, so that one kind that stalls does not block the others.

Within a kind, owners take turns, so that many requests of one owner do not delay another's. No route is a
plain function: FastAPI would run it in AnyIO's default threads, which are assigned in order of arrival.
"""

import asyncio
import functools
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from core.store.accounts import audit

P = ParamSpec("P")
T = TypeVar("T")
H = TypeVar("H", bound=Hashable)
CORES = os.cpu_count() or 1


class Turns:
    """Limit on concurrent calls in one event loop. At the limit, calls wait and owners take turns."""

    def __init__(self, max_calls: int) -> None:
        self._free = max_calls
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Calls in order of arrival, by owner in order of turns."""

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            called = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(owner, deque()).append(called)
            try:
                await called
            except asyncio.CancelledError:
                if not called.cancelled():  # it was both called and cancelled
                    self._call_next()
                raise
        try:
            yield
        finally:
            self._call_next()

    def _call_next(self) -> None:
        while self._waiting:
            owner = next(iter(self._waiting))
            calls = self._waiting.pop(owner)
            called = calls.popleft()
            if calls:
                self._waiting[owner] = calls  # last in line
            if not called.done():  # its request was cancelled
                called.set_result(None)
                return
        self._free += 1


class OfLoop:
    """Calls of one kind in one event loop."""

    def __init__(self, max_threads: int) -> None:
        self.turns = Turns(max_threads)
        self.limiter = CapacityLimiter(max_threads)
        """Never waits, because of the turns. Without one, AnyIO's own limit would count."""
        self.shared: dict[Any, asyncio.Future[Any]] = {}
        """Shared calls that have not begun."""


class Threads:
    """Limit on concurrent calls in threads. Calls wait for their turn without a thread."""

    def __init__(self, name: str, max_threads: int) -> None:
        self.max_threads = max_threads
        self._of_loop = RunVar[OfLoop](name)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread, when it is the owner's turn."""
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
            here = OfLoop(self.max_threads)
            self._of_loop.set(here)
            return here


DATABASE = Threads("database", 16)
"""Routes that read or change only the database."""
EXPORTS = Threads("exports", 8)
FILES = Threads("files", 8)
"""Routes that read, make or delete files."""
KEY_LOOKUPS = Threads("key look-ups", 8)
"""Requests with the same key share a call, so that each key has at most one in line."""
PARSING = Threads("parsing", CORES)
SPOOLING = Threads("spooling", 8)
"""Disk access of uploaded form files."""
UPLOADS = Threads("uploads", CORES)
"""Routes that check and store an upload."""
