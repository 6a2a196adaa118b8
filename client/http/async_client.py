"""The same client to await. What it does is in `operations`; the words are in `client`."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx

from client.http import calls, operations
from client.http.address import headers_of, lower_names, settings_of, timeouts, unreachable
from client.http.answers import Classification, Event, Job, Model, Readiness, Status
from client.http.body import OnUpload
from client.http.calls import Call, Names, OnBadImage
from client.http.errors import JobFailed
from client.http.retry import Retry
from client.http.steps import Answer, Give, Open, Read, Request, Send, Sleep, Step, Steps
from client.http.upload import Adaptable, upload_of
from client.pictures.dataset import ByClass
from client.pictures.picture import PictureLike, as_picture

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio and trio: the same arguments, results and exceptions."""

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

    async def __aenter__(self) -> "AsyncClient":
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

    # --- jobs ---

    async def adapt(
        self,
        pictures: Adaptable,
        *,
        test: ByClass | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> "AsyncJobHandle":
        """As `Client.adapt`."""
        upload = await anyio.to_thread.run_sync(upload_of, pictures, test)
        call = calls.adapt(
            upload.fields,
            upload.parts,
            name=name,
            config=config or {},
            on_bad_image=on_bad_image,
            webhook=webhook,
            idempotency_key=idempotency_key,
            on_upload=on_upload,
        )
        return AsyncJobHandle(self, await self._run(operations.adapt(upload, call, self._retry)))

    async def job(self, job_id: str) -> "AsyncJobHandle":
        """A job of earlier, to wait for, say."""
        return AsyncJobHandle(self, await self.get_job(job_id))

    async def get_job(self, job_id: str) -> Job:
        return await self._send(calls.get_job(job_id))

    def jobs(self, status: Status | None = None, *, page_size: int = 100) -> AsyncIterator[Job]:
        """All of them, the newest first, read page by page."""
        return self._iterate(operations.pages(lambda c: calls.jobs(status, page_size, c), self._retry))

    async def cancel(self, job_id: str) -> Job:
        return await self._send(calls.cancel(job_id))

    async def delete_job(self, job_id: str) -> None:
        """The job and its pictures; its model stays."""
        await self._send(calls.delete_job(job_id))

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What has happened so far."""
        return await self._send(calls.events(job_id, after))

    def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        """As `Client.follow`."""
        return self._iterate(operations.follow(job_id, after, self._retry))

    async def wait(
        self, job_id: str, *, on_change: Callable[[Job], None] | None = None, timeout: float | None = None
    ) -> Job:
        """As `Client.wait`."""
        return await self._run(operations.wait(job_id, on_change, timeout, self._retry))

    # --- models ---

    async def get_model(self, model_id: str) -> Model:
        return await self._send(calls.get_model(model_id))

    def models(self, *, page_size: int = 100) -> AsyncIterator[Model]:
        """All of them, the newest first, read page by page."""
        return self._iterate(operations.pages(lambda c: calls.models(page_size, c), self._retry))

    async def delete_model(self, model_id: str) -> None:
        await self._send(calls.delete_model(model_id))

    async def classify(
        self,
        pictures: Sequence[PictureLike],
        class_names: Names,
        *,
        model: str = "stock",
        alpha: float | None = None,
        templates: Sequence[str] | None = None,
        new_names_balance: float | None = None,
        top_k: int | None = None,
    ) -> Classification:
        """As `Client.classify`."""
        options = {
            "model": model,
            "alpha": alpha,
            "templates": templates,
            "new_names_balance": new_names_balance,
            "top_k": top_k,
        }
        given = [as_picture(picture, f"picture-{i}") for i, picture in enumerate(pictures, 1)]
        return await self._run(operations.classify(given, class_names, self._retry, options))

    async def ready(self) -> Readiness:
        """Whether the service can work, part by part."""
        return await self._send(calls.ready())

    # --- carrying it out ---

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


class AsyncJobHandle:
    """A job of an async client."""

    def __init__(self, client: AsyncClient, job: Job) -> None:
        self._client = client
        self.job = job
        """As it was last seen."""

    @property
    def id(self) -> str:
        return self.job.id

    def __repr__(self) -> str:
        return f"<{self.id}: {self.job.status}>"

    async def wait(
        self, *, on_change: Callable[[Job], None] | None = None, timeout: float | None = None
    ) -> Job:
        """As `JobHandle.wait`: raises JobFailed where it does not succeed."""
        self.job = await self._client.wait(self.id, on_change=on_change, timeout=timeout)
        if self.job.status != "succeeded":
            raise JobFailed(self.job)
        return self.job

    async def refresh(self) -> Job:
        self.job = await self._client.get_job(self.id)
        return self.job

    async def cancel(self) -> Job:
        self.job = await self._client.cancel(self.id)
        return self.job

    def follow(self, after: int = 0) -> AsyncIterator[Event]:
        return self._client.follow(self.id, after)

    async def delete(self) -> None:
        await self._client.delete_job(self.id)


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
