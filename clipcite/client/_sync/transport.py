"""A connection to the service, and what carries out the steps of operations on it: see `steps`."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from clipcite.client import operations
from clipcite.client.address import headers_of, lower_names, settings_of, timeouts, unreachable
from clipcite.client.request import Answer, Call, Request
from clipcite.client.retry import Retry
from clipcite.client.steps import Give, Open, Read, Send, Sleep, Step, Steps

T = TypeVar("T")


class Connection:
    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: Retry = Retry(),
        verify: Any = True,
    ) -> None:
        self._http = httpx.Client(**settings_of(base_url, api_key), verify=verify)
        self._retry = retry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def base_url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    def _send(self, call: Call[T]) -> T:
        return self._run(operations.send(call, self._retry))

    def _run(self, steps: Steps[T]) -> T:
        wire = _Wire(self._http)
        try:
            step = next(steps)
            while True:
                step = wire.advance(steps, step)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            wire.close()
            steps.close()

    def _iterate(self, steps: Steps[None]) -> Iterator[Any]:
        wire = _Wire(self._http)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Give):
                    yield step.value
                step = wire.advance(steps, step)
        except StopIteration:
            return
        finally:
            wire.close()


class _Wire:
    """Carries out the steps of one operation."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._open: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def advance(self, steps: Steps[Any], step: Step) -> Step:
        """The step after this one. Raises StopIteration with the result."""
        try:
            came = self._carry_out(step)
        except httpx.TransportError as error:
            return steps.throw(unreachable(self._http.base_url, error))
        return steps.send(came)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _carry_out(self, step: Step) -> Answer | bytes | None:
        match step:
            case Send(request):
                response = self._http.send(self._made(request))
                return Answer(response.status_code, lower_names(response), response.content)
            case Open(request):
                self.close()
                response = self._http.send(self._made(request), stream=True)
                if response.status_code == 200:
                    self._open, self._chunks = response, response.iter_bytes()
                    return Answer(200, lower_names(response))
                try:
                    return Answer(response.status_code, lower_names(response), response.read())
                finally:
                    response.close()
            case Read():
                return next(self._chunks, None)
            case Sleep(seconds):
                time.sleep(seconds)
        return None

    def _made(self, request: Request) -> httpx.Request:
        return self._http.build_request(
            request.method,
            request.path,
            params=request.query or None,
            headers=headers_of(request),
            content=None if request.body is None else _counted(request),
            timeout=timeouts(request),
        )


def _counted(request: Request) -> Iterator[bytes]:
    assert request.body is not None
    sent = 0
    for chunk in request.body.chunks():
        yield chunk
        sent += len(chunk)
        if request.on_upload is not None:
            request.on_upload(sent, request.body.size)
