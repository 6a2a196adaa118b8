"""The client for ordinary programs; `async_client` has the same methods to await."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

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


class Client:
    """A clipcite service.

    Args:
        base_url: its address; default CLIPCITE_URL, or http://127.0.0.1:8000.
        api_key: sent as `Authorization: Bearer`; default CLIPCITE_API_KEY, or none.
        retry: when requests are sent again; `Retry(attempts=1)` never does.
        verify: False, or an `ssl.SSLContext`, for certificates that this machine does not know.

    Every method raises `ServiceUnreachable` when there is no answer and a `ServiceError` with the service's
    words when it is an error. One client may be shared by threads.
    """

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

    def __enter__(self) -> "Client":
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

    # --- jobs ---

    def adapt(
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
    ) -> "JobHandle":
        """Upload labelled pictures and start an adaptation.

        Args:
            pictures: a folder (of class folders, with a manifest, or of an export), a manifest, a zip or
                tar, or a mapping from class names to paths, bytes, PIL images or uint8 arrays.
            test: pictures to measure the result on, for a mapping.
            config: settings such as `{"epochs": 10}`; the backbone's recipe has the rest.
            on_bad_image: "skip" goes on without pictures that can't be used.
            idempotency_key: default a new one. With one of your own a program that is started again makes no
                second job.
            on_upload: called with the bytes sent and, where it is known, their number.

        Raises:
            InvalidPictures: nothing was sent.
            Refused: `errors` names each bad picture.
        """
        upload = upload_of(pictures, test)
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
        return JobHandle(self, self._run(operations.adapt(upload, call, self._retry)))

    def job(self, job_id: str) -> "JobHandle":
        """A job of earlier, to wait for, say."""
        return JobHandle(self, self.get_job(job_id))

    def get_job(self, job_id: str) -> Job:
        return self._send(calls.get_job(job_id))

    def jobs(self, status: Status | None = None, *, page_size: int = 100) -> Iterator[Job]:
        """All of them, the newest first, read page by page."""
        return self._iterate(operations.pages(lambda c: calls.jobs(status, page_size, c), self._retry))

    def cancel(self, job_id: str) -> Job:
        return self._send(calls.cancel(job_id))

    def delete_job(self, job_id: str) -> None:
        """The job and its pictures; its model stays."""
        self._send(calls.delete_job(job_id))

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What has happened so far."""
        return self._send(calls.events(job_id, after))

    def follow(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """What happens, as it does, until the job has ended. Outlives a restart of the service."""
        return self._iterate(operations.follow(job_id, after, self._retry))

    def wait(
        self, job_id: str, *, on_change: Callable[[Job], None] | None = None, timeout: float | None = None
    ) -> Job:
        """The job when it has ended, however it did.

        `on_change` is called with the job as it is now whenever something changes: its `progress` has
        stage, losses and the time left. A restart of the service is waited out.

        Raises:
            WaitTimeout: not within `timeout` seconds; the job goes on.
        """
        return self._run(operations.wait(job_id, on_change, timeout, self._retry))

    # --- models ---

    def get_model(self, model_id: str) -> Model:
        return self._send(calls.get_model(model_id))

    def models(self, *, page_size: int = 100) -> Iterator[Model]:
        """All of them, the newest first, read page by page."""
        return self._iterate(operations.pages(lambda c: calls.models(page_size, c), self._retry))

    def delete_model(self, model_id: str) -> None:
        self._send(calls.delete_model(model_id))

    def classify(
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
        """Rank class names, trained or new, for each picture. Many pictures go in several requests.

        Args:
            class_names: names, or a mapping from names to sentences that are read for them (or None).
            alpha: 0 (pre-trained) to 1 (fine-tuned); default the model's.

        A picture that can't be read has an `error` in its result; if none can, Refused is raised.
        """
        options = {
            "model": model,
            "alpha": alpha,
            "templates": templates,
            "new_names_balance": new_names_balance,
            "top_k": top_k,
        }
        given = [as_picture(picture, f"picture-{i}") for i, picture in enumerate(pictures, 1)]
        return self._run(operations.classify(given, class_names, self._retry, options))

    def ready(self) -> Readiness:
        """Whether the service can work, part by part."""
        return self._send(calls.ready())

    # --- carrying it out ---

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


class JobHandle:
    """A job of a client."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self.job = job
        """As it was last seen."""

    @property
    def id(self) -> str:
        return self.job.id

    def __repr__(self) -> str:
        return f"<{self.id}: {self.job.status}>"

    def wait(self, *, on_change: Callable[[Job], None] | None = None, timeout: float | None = None) -> Job:
        """As `Client.wait`, for a job that is to succeed.

        Raises:
            JobFailed: it failed or was cancelled.
            WaitTimeout: not within `timeout` seconds; the job goes on.
        """
        self.job = self._client.wait(self.id, on_change=on_change, timeout=timeout)
        if self.job.status != "succeeded":
            raise JobFailed(self.job)
        return self.job

    def refresh(self) -> Job:
        self.job = self._client.get_job(self.id)
        return self.job

    def cancel(self) -> Job:
        self.job = self._client.cancel(self.id)
        return self.job

    def follow(self, after: int = 0) -> Iterator[Event]:
        return self._client.follow(self.id, after)

    def delete(self) -> None:
        self._client.delete_job(self.id)


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
