"""Threads for blocking work, in pools by what the work waits for: one that stalls does not block the others.

One owner gets at most half of a pool; further calls wait. No route is a plain function: FastAPI would run it
in AnyIO's default threads, which one owner could take all.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from core.admission import ServerBusy
from core.store.accounts import audit

P = ParamSpec("P")
T = TypeVar("T")
WAIT_SECONDS = 10.0
UPLOAD_SECONDS = 300.0
"""Maximum wait of an upload or export for its thread. An upload of 5,000 images takes minutes."""


class Threads:
    """Limit on concurrent calls in threads. Calls wait without a thread, in order of arrival."""

    def __init__(self, max_threads: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.max_threads = max_threads
        self.wait_seconds = wait_seconds
        self._limits: RunVar[WeakValueDictionary[str, CapacityLimiter]] = RunVar(f"threads {id(self)}")
        """Of all calls and of each owner, as long as one is in use. Each event loop has its own."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread.

        Raises:
            ServerBusy: no thread becomes free in time.
        """
        return await self.run_as(audit.actor().owner, function, *args, **kwargs)

    async def run_as(self, owner: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function like `run`, on behalf of any owner."""
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self.wait_seconds):
                    await held.enter_async_context(
                        self._limit(f"owner {owner}", max(1, self.max_threads // 2))
                    )
                    await held.enter_async_context(self._limit("all", self.max_threads))
            except TimeoutError:
                raise ServerBusy(
                    "Too many requests like this one are in progress. Try again in 5 s."
                ) from None
            call = functools.partial(function, *args, **kwargs)
            # With a limiter of its own: AnyIO's default one would count, too.
            return await to_thread.run_sync(call, limiter=CapacityLimiter(1))

    def _limit(self, name: str, most: int) -> CapacityLimiter:
        try:
            limits = self._limits.get()
        except LookupError:
            self._limits.set(limits := WeakValueDictionary())
        return limits.setdefault(name, CapacityLimiter(most))

    def runs(self, function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Wrap a blocking function as a coroutine function, for use as a route."""

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.run(function, *args, **kwargs)

        return run


REQUESTS = Threads(24)
"""Routes that wait for the database alone, and look-ups of keys."""
UPLOADS = Threads(16, UPLOAD_SECONDS)
"""Uploads, and other routes that read, make or delete files."""
MODELS = Threads(1, UPLOAD_SECONDS)
"""Exports and imports, one at a time: each holds a whole model in memory."""
