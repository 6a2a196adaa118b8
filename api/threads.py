"""Threads for blocking work, apart from each other: one kind that stalls does not hold up the others.

Plain functions of routes, which read the database, have AnyIO's default threads.
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
    """At most so many calls at a time; further ones wait for their turn without a thread."""

    def __init__(self, name: str, most: int) -> None:
        self._most = most
        self._limiter = RunVar[CapacityLimiter](name)  # one for each event loop

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            limiter = self._limiter.get()
        except LookupError:
            limiter = CapacityLimiter(self._most)
            self._limiter.set(limiter)
        return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs), limiter=limiter)

    def runs(self, function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Make a route of a plain function that blocks."""

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.run(function, *args, **kwargs)

        return run


KEY_LOOKUPS = Threads("key look-ups", 8)
PARSING = Threads("parsing", CORES)
SPOOLING = Threads("spooling", 8)
"""Files of forms, to the disk and back."""
UPLOADS = Threads("uploads", CORES)
"""Routes that check an upload and store it."""
