"""The asynchronous client with the synchronous client's calls, so that a test runs on both."""

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from clipcite import AsyncClient, AsyncJob, AsyncModel, AsyncPile
from clipcite.client._async.aliases import AsyncAliases
from clipcite.client._async.jobs import AsyncJobs
from clipcite.client._async.models import AsyncModels
from clipcite.client._async.piles import AsyncPiles

END = object()


@contextmanager
def awaited_client(*args: Any, **options: Any) -> Iterator[Any]:
    """Open an AsyncClient whose calls are awaited on an event loop in a thread of its own."""
    client = AsyncClient(*args, **options)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
        yield _Awaited(portal, client)


class _Awaited:
    def __init__(self, portal: BlockingPortal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if isinstance(value, AsyncJobs | AsyncModels | AsyncPiles | AsyncAliases):
            return _Awaited(self._portal, value)
        return partial(self._call, value) if callable(value) else value

    def _call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = self._portal.call(_finish, partial(method, *args, **options))
        if isinstance(result, AsyncGenerator):
            return self._iterate(result)
        return (
            _Awaited(self._portal, result)
            if isinstance(result, AsyncJob | AsyncModel | AsyncPile)
            else result
        )

    def _iterate(self, items: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while (item := self._portal.call(anext, items, END)) is not END:
                yield item
        finally:
            self._portal.call(items.aclose)


async def _finish(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if inspect.isawaitable(result) else result
