"""HTTP requests to the service, with retries."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx

from clipcite.client.address import headers_of, response_of, settings_of, timeouts, unreachable
from clipcite.client.errors import APIConnectionError
from clipcite.client.request import Call, Page, Request, Response, limited, status_error
from clipcite.client.retry import NOT_DONE, RETRYABLE, Retry, is_over

T = TypeVar("T")


class AsyncTransport:
    """Connections to one service. Arguments as for `Client`."""

    def __init__(self, base_url: str | None, api_key: str | None, retry: Retry, verify: Any) -> None:
        self._http = httpx.AsyncClient(**settings_of(base_url, api_key, verify))
        self.retry = retry

    async def aclose(self) -> None:
        await self._http.aclose()

    @property
    def base_url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    async def send(self, call: Call[T], retry: Retry | None = None, until: float | None = None) -> T:
        """Send a request, with retries. No pause and no wait for bytes ends after `until` (monotonic clock).

        Raises:
            APIStatusError: an error response, after all retries.
            APIConnectionError: no response, after all retries.
            APIResponseValidationError: a response that does not fit.
        """
        retry = retry or self.retry
        attempt = 0
        lost = False
        while True:
            attempt += 1
            try:
                response = await self.request(limited(call.request, until))
            except APIConnectionError:
                lost = True
                pause = retry.pause(attempt) if call.idempotent else None
                if pause is None or is_over(until, pause):
                    raise
            else:
                if 200 <= response.status < 300 or (response.status == 404 and lost and call.gone_is_done):
                    return call.read(response)
                retryable = RETRYABLE if call.idempotent else NOT_DONE
                pause = retry.pause(attempt, response.headers) if response.status in retryable else None
                if pause is None or is_over(until, pause):
                    raise status_error(response)
            await anyio.sleep(pause)

    async def pages(self, page: Callable[[str | None], Call[Page[T]]]) -> AsyncIterator[T]:
        """Yield every item of a list, fetched page by page."""
        cursor: str | None = None
        while True:
            fetched = await self.send(page(cursor))
            for item in fetched.data:
                yield item
            cursor = fetched.next_cursor
            if cursor is None:
                return

    async def request(self, request: Request) -> Response:
        """Send the request once.

        Raises:
            APIConnectionError: no response.
        """
        with self.connection_errors():
            return response_of(await self._http.send(self._http_request(request)))

    async def open(self, request: Request) -> httpx.Response:
        """Send the request once. The body of a 200 is not read yet; the caller closes the response.

        Raises:
            APIConnectionError: no response.
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
        """Convert transport errors of httpx to APIConnectionError."""
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
    """Yield the body in chunks. Files are read in a thread, so that they do not block the event loop."""
    assert request.body is not None
    sent = 0
    chunks = request.body.chunks()
    while (chunk := await anyio.to_thread.run_sync(next, chunks, None)) is not None:
        yield chunk
        sent += len(chunk)
        if request.on_upload is not None:
            request.on_upload(sent, request.body.size)
