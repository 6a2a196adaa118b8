"""The threads of an API process: which pool is for what, and how much each takes on.

No route is a plain function, because FastAPI would run it in AnyIO's default threads, and one owner could use
all of them. What a route waits for decides its pool, so that a pool that stalls does not block the others:

- `REQUESTS`: the database. `UPLOADS`: files, too. `MODELS`: exports and imports.
- `Serving.requests`: models. Classifications, sorts of piles and embeddings.

The others work for these:

- `Decoders`: wait for the processes that decode, with threads of their own for large images.
- `Texts`: tokenizes. `Batcher`: computes features. Beside the builder, only it uses several cores per thread.
- `WarmCache`: loads. Backbones and models have a pool each, because models wait for their backbones.
  `ModelPool`: the builder of models.
- `Previews`, `PileFeatureStore`: features of stored images. A pool each, because people wait for previews.
- `Blobs`: stores the files of an upload, for this upload alone.
- `Checks`, `LastUse`: a thread each, so that requests do not wait for a database that hangs.

Two ideas bound the work. What a request holds, such as images, memory and space on disk, is part of a
`core.admission.Budget`, which refuses at once what does not fit. Work waits for a thread: in `Threads` in
order and for a limited time, in `core.turns.TurnThreads` so that owners take turns. In a budget and in
`Threads`, one owner may use at most half.
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
"""Maximum wait of an upload or export for a thread (seconds). An upload of 5,000 images takes minutes."""


class Threads:
    """A limited number of concurrent calls in threads. Further calls wait in order, without a thread."""

    def __init__(self, max_threads: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.max_threads = max_threads
        self.wait_seconds = wait_seconds
        self._limits: RunVar[WeakValueDictionary[str, CapacityLimiter]] = RunVar(f"threads {id(self)}")
        """Limiters of all calls and of each owner, while in use. Each event loop has its own."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread.

        Raises:
            ServerBusy: no thread becomes free in time.
        """
        return await self.run_as(audit.actor().owner, function, *args, **kwargs)

    async def run_as(self, owner: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function as `run` does, for a given owner."""
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
            # A limiter must be passed, because AnyIO would otherwise apply its default limiter too.
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
"""Threads for routes that wait only for the database, and for look-ups of keys."""
UPLOADS = Threads(16, UPLOAD_SECONDS)
"""Threads for uploads, and for other routes that read, create or delete files."""
MODELS = Threads(1, UPLOAD_SECONDS)
"""Thread for exports and imports. They run one at a time, because each holds a whole model in memory."""
