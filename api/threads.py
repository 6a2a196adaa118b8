"""Threads for blocking work, in pools by what the work waits for: one that stalls does not block the others.

Within a pool, owners take turns. No route is a plain function: FastAPI would run it in AnyIO's default
threads, which are assigned in order of arrival.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from core.admission import Admission, Limit
from core.store.accounts import audit

P = ParamSpec("P")
T = TypeVar("T")
WAIT_SECONDS = 10.0
UPLOAD_SECONDS = 300.0
"""Maximum wait of an upload or export for its turn. An upload of 5,000 images takes minutes."""


class Threads:
    """Limit on concurrent calls in threads. Calls wait for their turn without a thread."""

    def __init__(self, max_threads: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.wait_seconds = wait_seconds
        self.admission = Admission(slots=Limit(max_threads))

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread, when it is the owner's turn.

        Raises:
            ServerBusy: the turn does not come in time.
        """
        return await self.run_as(audit.actor().owner, function, *args, **kwargs)

    async def run_as(self, owner: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function like `run`, in the turn of any owner."""
        async with self.admission.admit_here(owner, slots=1, wait=self.wait_seconds):
            call = functools.partial(function, *args, **kwargs)
            # With a limiter of its own: AnyIO's default one would count, too.
            return await to_thread.run_sync(call, limiter=CapacityLimiter(1))

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
