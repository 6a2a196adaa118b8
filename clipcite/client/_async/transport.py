"""HTTP requests to the service, repeated as `Retry` says."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx

from clipcite.client.address import answer_of, headers_of, settings_of, timeouts, unreachable
from clipcite.client.errors import APIConnectionError
from clipcite.client.request import Answer, Call, Page, Request, failure_of
from clipcite.client.retry import AGAIN, NOT_DONE, Retry, is_over

T = TypeVar("T")


class AsyncTransport:
    """Connections to one service. Arguments: those of `Client`."""

    def __init__(self, base_url: str | None, api_key: str | None, retry: Retry, verify: Any) -> None:
        self._http = httpx.AsyncClient(**settings_of(base_url, api_key), verify=verify)
        self.retry = retry

    async def aclose(self) -> None:
        await self._http.aclose()

    @property
    def base_url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    async def send(self, call: Call[T], retry: Retry | None = None, until: float | None = None) -> T:
        """Send until there is an answer, as `retry` says; no pause ends after `until` (monotonic clock).

        Raises:
            APIStatusError, APIConnectionError, UnexpectedAnswer.
        """
        retry = retry or self.retry
        attempt = 0
        lost = False
        while True:
            attempt += 1
            try:
                answer = await self.request(call.request)
            except APIConnectionError:
                lost = True
                pause = retry.pause(attempt) if call.twice_is_harmless else None
                if pause is None or is_over(until, pause):
                    raise
            else:
                if 200 <= answer.status < 300 or (answer.status == 404 and lost and call.gone_is_done):
                    return call.read(answer)
                again = AGAIN if call.twice_is_harmless else NOT_DONE
                pause = retry.pause(attempt, answer.headers) if answer.status in again else None
                if pause is None or is_over(until, pause):
                    raise failure_of(answer)
            await anyio.sleep(pause)

    async def pages(self, page: Callable[[str | None], Call[Page[T]]]) -> AsyncIterator[T]:
        """Yield every item of a list, read page by page."""
        cursor: str | None = None
        while True:
            got = await self.send(page(cursor))
            for item in got.data:
                yield item
            cursor = got.next_cursor
            if cursor is None:
                return

    async def request(self, request: Request) -> Answer:
        """Send it once. Raises APIConnectionError."""
        with self.connection_errors():
            return answer_of(await self._http.send(self._http_request(request)))

    async def open(self, request: Request) -> httpx.Response:
        """Send it once. The body of a 200 is not read yet; the caller closes the response.

        Raises:
            APIConnectionError.
        """
        with self.connection_errors():
            response = await self._http.send(self._http_request(request), stream=True)
            if response.status_code != 200:
                try:
                    await response.aread()
                finally:
                    await response.aclose()
        return response

    @contextmanager
    def connection_errors(self) -> Iterator[None]:
        """Raise httpx's errors as APIConnectionError."""
        try:
            yield
        except httpx.TransportError as error:
            raise unreachable(self._http.base_url, error) from error

    def _http_request(self, request: Request) -> httpx.Request:
        return self._http.build_request(
            request.method,
            request.path,
            params=request.query or None,
            headers=headers_of(request),
            content=None if request.body is None else _counted(request),
            timeout=timeouts(request),
        )


async def _counted(request: Request) -> AsyncIterator[bytes]:
    """Yield the body chunk by chunk. The asynchronous client reads files in a thread: other tasks go on."""
    assert request.body is not None
    sent = 0
    chunks = request.body.chunks()
    while (chunk := await anyio.to_thread.run_sync(next, chunks, None)) is not None:
        yield chunk
        sent += len(chunk)
        if request.on_upload is not None:
            request.on_upload(sent, request.body.size)
