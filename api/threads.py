"""Separate thread limits per kind of blocking work, so that one kind that stalls does not block the others.

Plain route functions, which read the database, use AnyIO's default threads.
"""

import functools
import os
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

P = ParamSpec("P")
T = TypeVar("T")
CORES = os.cpu_count() or 1


class Threads:
    """Limit on concurrent calls. Further calls wait for their turn without a thread."""

    def __init__(self, name: str, max_threads: int) -> None:
        self._max_threads = max_threads
        self._limiter = RunVar[CapacityLimiter](name)  # one per event loop

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread, when it is its turn."""
        try:
            limiter = self._limiter.get()
        except LookupError:
            limiter = CapacityLimiter(self._max_threads)
            self._limiter.set(limiter)
        return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs), limiter=limiter)

    def runs(self, function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Wrap a blocking function as a coroutine function, for use as a route."""

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.run(function, *args, **kwargs)

        return run


EXPORTS = Threads("exports", 8)
FILES = Threads("files", 8)
"""Routes that read, make or delete files."""
KEY_LOOKUPS = Threads("key look-ups", 8)
PARSING = Threads("parsing", CORES)
SPOOLING = Threads("spooling", 8)
"""Disk access of uploaded form files."""
UPLOADS = Threads("uploads", CORES)
"""Routes that check and store an upload."""
