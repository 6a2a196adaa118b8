"""Methods for jobs, and the handle of one job."""

import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from clipcite.client import job_requests
from clipcite.client._async.follow import AsyncFollower
from clipcite.client._async.transport import AsyncTransport
from clipcite.client.errors import JobFailed, UnprocessableEntityError, WaitTimeout
from clipcite.client.job_requests import OnBadImage
from clipcite.client.multipart import OnUpload
from clipcite.client.parse import parse
from clipcite.client.report_types import Preflight, Report
from clipcite.client.request import Call, one
from clipcite.client.retry import is_over
from clipcite.client.types import PROGRESS, Event, Job, Progress, Status
from clipcite.client.upload import Adaptable, Upload, upload_of
from clipcite.datasets.dataset import ByClass

T = TypeVar("T")
END_SECONDS = 0.3
"""Pause between the last event of a job and the last look at the job."""


class AsyncJobs:
    _transport: AsyncTransport

    async def adapt(
        self,
        images: Adaptable,
        *,
        test: ByClass | None = None,
        extends: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_upload: OnUpload | None = None,
    ) -> "AsyncJobHandle":
        """Upload labelled images and start an adaptation.

        Args:
            images: a folder (of class folders, with a manifest, or of an export), a manifest, a zip or
                tar (repacked as a zip), or a mapping from class names to paths, bytes, PIL images or
                uint8 arrays.
            test: images to measure the result on, for a mapping.
            extends: a model: the images that it was made from are taken as well, under its name and with
                its settings where nothing else is said. The model itself stays as it is.
            config: settings such as `{"epochs": 10}`; the backbone's recipe has the rest.
            on_bad_image: "skip" goes on without images that can't be used.
            idempotency_key: default a new one. With one of your own a program that is started again makes no
                second job.
            on_upload: called with the bytes sent and, where it is known, their number.

        Raises:
            InvalidImages: nothing was sent.
            UnprocessableEntityError: `errors` names each bad image.
        """
        upload = await anyio.to_thread.run_sync(upload_of, images, test)
        request = job_requests.adapt(
            upload,
            extends,
            config,
            on_bad_image,
            on_upload,
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
            name=name,
            webhook=webhook,
        )
        return AsyncJobHandle(self, await self._send_upload(upload, Call(request, one(Job))))

    async def look(
        self,
        images: Adaptable,
        *,
        test: ByClass | None = None,
        extends: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        on_upload: OnUpload | None = None,
    ) -> Preflight:
        """What `adapt` would find in these images and names, and what the training would take. Nothing is
        stored, and images that can't be read are findings, not errors."""
        upload = await anyio.to_thread.run_sync(upload_of, images, test)
        query = {"dry_run": "true"}
        request = job_requests.adapt(upload, extends, config, on_bad_image, on_upload, query=query)
        checked = await self._send_upload(upload, Call(request, one(Preflight)))
        findings = [
            replace(
                finding,
                file=upload.local_name(finding.file) or finding.file,
                other=upload.local_name(finding.other),
            )
            for finding in checked.findings
        ]
        return replace(checked, findings=findings)

    async def _send_upload(self, upload: Upload, call: Call[T]) -> T:
        """Send labelled images. Errors name the files as they are called here."""
        try:
            return await self._transport.send(call)
        except UnprocessableEntityError as error:
            items = [replace(item, file=upload.local_name(item.file)) for item in error.errors]
            raise UnprocessableEntityError(replace(error.problem, errors=items), error.headers) from None

    async def job(self, job_id: str) -> "AsyncJobHandle":
        """A job of earlier, to wait for, say."""
        return AsyncJobHandle(self, await self.get_job(job_id))

    async def get_job(self, job_id: str) -> Job:
        return await self._transport.send(job_requests.get_job(job_id))

    def jobs(self, status: Status | None = None, *, page_size: int = 100) -> AsyncIterator[Job]:
        """All of them, the newest first, read page by page."""
        return self._transport.pages(lambda cursor: job_requests.jobs(status, page_size, cursor))

    async def cancel(self, job_id: str) -> Job:
        return await self._transport.send(job_requests.cancel(job_id))

    async def delete_job(self, job_id: str) -> None:
        """The job and its images; its model stays."""
        await self._transport.send(job_requests.delete_job(job_id))

    async def preflight(self, job_id: str) -> Preflight:
        """What was found in the job's images when they came in."""
        return await self._transport.send(job_requests.preflight(job_id))

    async def report(self, job_id: str) -> Report:
        """Whether to trust the job's model. Raises NotFoundError as long as there is none."""
        return await self._transport.send(job_requests.report(job_id))

    async def report_page(self, job_id: str) -> str:
        """The same as a page of HTML with the images in it, to keep and to send on."""
        return await self._transport.send(job_requests.report_page(job_id))

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What has happened so far."""
        return await self._transport.send(job_requests.events(job_id, after))

    async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        """What happens, as it does, until the job has ended. Outlives a restart of the service."""
        async with aclosing(AsyncFollower(self._transport, job_id, after)) as follower:
            while (events := await follower.next()) is not None:
                for event in events:
                    yield event

    async def wait(
        self, job_id: str, *, on_change: Callable[[Job], None] | None = None, timeout: float | None = None
    ) -> Job:
        """The job when it has ended, however it did.

        `on_change` is called with the job as it is now whenever something changes: its `progress` has
        stage, losses and the time left. A restart of the service is waited out.

        Raises:
            WaitTimeout: not within `timeout` seconds; the job goes on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        call = job_requests.get_job(job_id)
        async with aclosing(AsyncFollower(self._transport, job_id, 0, until)) as follower:
            job = await self._transport.send(call, until=until)
            while True:
                if on_change is not None:
                    on_change(job)
                if job.ended:
                    return job
                if is_over(until):
                    raise WaitTimeout(job)
                events = await follower.next()
                if events and all(event.type == PROGRESS for event in events):
                    progress = parse(Progress, events[-1].data)
                    job = replace(job, status="running", queue_position=None, progress=progress)
                    continue
                if events is None:
                    await anyio.sleep(END_SECONDS)
                job = await self._transport.send(call, self._transport.retry.patient, until)


class AsyncJobHandle:
    """A job of a client."""

    def __init__(self, client: AsyncJobs, job: Job) -> None:
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
        """As `Client.wait`, for a job that is to succeed.

        Raises:
            JobFailed: it failed or was cancelled.
            WaitTimeout: not within `timeout` seconds; the job goes on.
        """
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

    async def preflight(self) -> Preflight:
        return await self._client.preflight(self.id)

    async def report(self) -> Report:
        return await self._client.report(self.id)

    async def report_page(self) -> str:
        return await self._client.report_page(self.id)

    def follow(self, after: int = 0) -> AsyncIterator[Event]:
        return self._client.follow(self.id, after)

    async def delete(self) -> None:
        await self._client.delete_job(self.id)
