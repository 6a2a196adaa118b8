# Generated from clipcite/client/_async/transport.py by `python -m tests.repository.unasync`. Do not edit.
"""HTTP requests to the service, with retries."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import httpx

from clipcite.client.address import settings_of, unreachable
from clipcite.client.request import M, Request, json_of, parse, parse_list, status_error
from clipcite.client.retry import NOT_DONE, RETRYABLE, Retry, is_over
from clipcite.errors import APIConnectionError

CONNECT_SECONDS = 10
WRITE_SECONDS = 60
Receive = Callable[[httpx.Response], None]


class Transport:
    """Connections to one service. Arguments as for `Client`."""

    def __init__(self, base_url: str | None, api_key: str | None, retry: Retry, verify: Any) -> None:
        self._http = httpx.Client(**settings_of(base_url, api_key, verify))
        self.retry = retry

    def close(self) -> None:
        self._http.close()

    @property
    def base_url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    def send(
        self,
        request: Request,
        retry: Retry | None = None,
        until: float | None = None,
        receive: Receive | None = None,
    ) -> httpx.Response:
        """Send a request, with retries. Pauses and waits for bytes end by `until` (monotonic clock).

        Args:
            receive: called with an open successful response, instead of reading its body.

        Raises:
            APIStatusError: an error response, after all retries.
            APIConnectionError: no response, after all retries.
        """
        retry = retry or self.retry
        refused = lost = 0
        was_lost = False
        while True:
            try:
                response = self.request(request.until(until), receive)
            except APIConnectionError:
                lost, was_lost = lost + 1, True
                pause = retry.pause(lost) if request.idempotent else None
                if pause is None or is_over(until):
                    raise
            else:
                refused, lost = refused + 1, 0
                status = response.status_code
                # An earlier DELETE, whose response was lost, has deleted it.
                if response.is_success or (status == 404 and was_lost and request.method == "DELETE"):
                    return response
                starting = status == 503 and status_error(response).code == "starting"
                # The whole start may take a minute. If it fails, nothing responds any longer.
                policy = retry.patient if starting and retry.attempts > 1 else retry
                retryable = RETRYABLE if request.idempotent else NOT_DONE
                pause = policy.pause(refused, response.headers) if status in retryable else None
                if pause is None or is_over(until):
                    raise status_error(response)
            time.sleep(pause if until is None else max(0, min(pause, until - time.monotonic())))

    def fetch(
        self, kind: type[M], request: Request, retry: Retry | None = None, until: float | None = None
    ) -> M:
        """Send a request and return its response as an object.

        Raises:
            APIResponseValidationError: the response does not match `kind`.
            APIStatusError, APIConnectionError: see `send`.
        """
        return parse(kind, json_of((self.send(request, retry, until)).content))

    def fetch_list(self, kind: type[M], request: Request, retry: Retry | None = None) -> list[M]:
        """Send a request and return its response as a list. The list must have one page."""
        return parse_list(kind, (self.send(request, retry)).content)[0]

    def pages(self, kind: type[M], path: str, query: Mapping[str, str | None]) -> Iterator[M]:
        """Yield every item of a list, fetched page by page."""
        cursor: str | None = None
        while True:
            response = self.send(Request("GET", path, {**query, "after": cursor}))
            items, cursor = parse_list(kind, response.content)
            yield from items
            if cursor is None:
                return

    def request(self, request: Request, receive: Receive | None = None) -> httpx.Response:
        """Send the request once. See `send` for `receive`.

        Raises:
            APIConnectionError: no response.
        """
        try:
            response = self._http.send(self._http_request(request), stream=receive is not None)
            if receive is not None:
                with closing(response):
                    if response.status_code == 200:
                        receive(response)
                    else:
                        response.read()
            # The stream refers to the response. Without this cycle, the sent files are freed at once.
            response.stream = httpx.ByteStream(b"")
            return response
        except httpx.TransportError as error:
            raise unreachable(self._http.base_url, error) from error

    def _http_request(self, request: Request) -> httpx.Request:
        seconds = request.read_seconds
        return self._http.build_request(
            request.method,
            request.path,
            params={name: value for name, value in request.query.items() if value is not None},
            headers=dict(request.headers),
            json=request.json,
            data=request.fields,
            files=request.watched_files(),
            timeout=httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds), write=WRITE_SECONDS),
        )
