"""As `connection`, to await."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import httpx

from clipcite.client import operations
from clipcite.client.address import headers_of, lower_names, settings_of, timeouts, unreachable
from clipcite.client.request import Answer, Call, Request
from clipcite.client.retry import Retry
from clipcite.client.steps import Give, Open, Read, Send, Sleep, Step, Steps

T = TypeVar("T")


class AsyncConnection:
    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: Retry = Retry(),
        verify: Any = True,
    ) -> None:
        self._http = httpx.AsyncClient(**settings_of(base_url, api_key), verify=verify)
        self._retry = retry

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    @property
    def base_url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    async def _send(self, call: Call[T]) -> T:
        return await self._run(operations.send(call, self._retry))

    async def _run(self, steps: Steps[T]) -> T:
        wire = _AsyncWire(self._http)
        try:
            step = next(steps)
            while True:
                step = await wire.advance(steps, step)
        except _Ended as end:
            result: T = end.result
            return result
        finally:
            await wire.close()
            steps.close()

    async def _iterate(self, steps: Steps[None]) -> AsyncIterator[Any]:
        wire = _AsyncWire(self._http)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Give):
                    yield step.value
                step = await wire.advance(steps, step)
        except _Ended:
            return
        finally:
            await wire.close()


class _Ended(Exception):
    """StopIteration may not leave a coroutine."""

    def __init__(self, result: Any) -> None:
        self.result = result


class _AsyncWire:
    """Carries out the steps of one operation."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._open: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def advance(self, steps: Steps[Any], step: Step) -> Step:
        """The step after this one. Raises _Ended with the result."""
        try:
            try:
                came = await self._carry_out(step)
            except httpx.TransportError as error:
                return steps.throw(unreachable(self._http.base_url, error))
            return steps.send(came)
        except StopIteration as end:
            raise _Ended(end.value) from None

    async def close(self) -> None:
        if self._open is not None:
            await self._open.aclose()
            self._open = None

    async def _carry_out(self, step: Step) -> Answer | bytes | None:
        match step:
            case Send(request):
                response = await self._http.send(self._made(request))
                return Answer(response.status_code, lower_names(response), response.content)
            case Open(request):
                await self.close()
                response = await self._http.send(self._made(request), stream=True)
                if response.status_code == 200:
                    self._open, self._chunks = response, response.aiter_bytes()
                    return Answer(200, lower_names(response))
                try:
                    return Answer(response.status_code, lower_names(response), await response.aread())
                finally:
                    await response.aclose()
            case Read():
                assert self._chunks is not None
                return await anext(self._chunks, None)
            case Sleep(seconds):
                await anyio.sleep(seconds)
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


async def _counted(request: Request) -> AsyncIterator[bytes]:
    """Files are read in a thread, so that nobody else waits for a disk."""
    assert request.body is not None
    sent = 0
    chunks = request.body.chunks()
    while (chunk := await anyio.to_thread.run_sync(next, chunks, None)) is not None:
        yield chunk
        sent += len(chunk)
        if request.on_upload is not None:
            request.on_upload(sent, request.body.size)
