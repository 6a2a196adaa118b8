"""As `jobs`, to await. The words are there."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio.to_thread

from clipcite.client import job_requests, operations
from clipcite.client._async.transport import AsyncConnection
from clipcite.client.errors import JobFailed
from clipcite.client.job_requests import OnBadImage
from clipcite.client.multipart import OnUpload
from clipcite.client.report_types import Preflight, Report
from clipcite.client.types import Event, Job, Status
from clipcite.client.upload import Adaptable, upload_of
from clipcite.datasets.dataset import ByClass


class AsyncJobs(AsyncConnection):
    async def adapt(
        self,
        pictures: Adaptable,
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
        """As `Client.adapt`."""
        upload = await anyio.to_thread.run_sync(upload_of, pictures, test)
        call = job_requests.adapt(
            upload.fields,
            upload.parts,
            extends=extends,
            name=name,
            config=config or {},
            on_bad_image=on_bad_image,
            webhook=webhook,
            idempotency_key=idempotency_key,
            on_upload=on_upload,
        )
        return AsyncJobHandle(self, await self._run(operations.send_upload(upload, call, self._retry)))

    async def look(
        self,
        pictures: Adaptable,
        *,
        test: ByClass | None = None,
        extends: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        on_upload: OnUpload | None = None,
    ) -> Preflight:
        """As `Client.look`."""
        upload = await anyio.to_thread.run_sync(upload_of, pictures, test)
        call = job_requests.dry_run(
            upload.fields,
            upload.parts,
            extends=extends,
            config=config or {},
            on_bad_image=on_bad_image,
            on_upload=on_upload,
        )
        return await self._run(operations.send_look(upload, call, self._retry))

    async def job(self, job_id: str) -> "AsyncJobHandle":
        """A job of earlier, to wait for, say."""
        return AsyncJobHandle(self, await self.get_job(job_id))

    async def get_job(self, job_id: str) -> Job:
        return await self._send(job_requests.get_job(job_id))

    def jobs(self, status: Status | None = None, *, page_size: int = 100) -> AsyncIterator[Job]:
        """All of them, the newest first, read page by page."""
        return self._iterate(operations.pages(lambda c: job_requests.jobs(status, page_size, c), self._retry))

    async def cancel(self, job_id: str) -> Job:
        return await self._send(job_requests.cancel(job_id))

    async def delete_job(self, job_id: str) -> None:
        """The job and its pictures; its model stays."""
        await self._send(job_requests.delete_job(job_id))

    async def preflight(self, job_id: str) -> Preflight:
        """What was found in the job's pictures when they came in."""
        return await self._send(job_requests.preflight(job_id))

    async def report(self, job_id: str) -> Report:
        """Whether to trust the job's model. Raises NotFoundError as long as there is none."""
        return await self._send(job_requests.report(job_id))

    async def report_page(self, job_id: str) -> str:
        """The same as a page of HTML with the pictures in it, to keep and to send on."""
        return await self._send(job_requests.report_page(job_id))

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What has happened so far."""
        return await self._send(job_requests.events(job_id, after))

    def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        """What happens, as it does, until the job has ended. Outlives a restart of the service."""
        return self._iterate(operations.follow(job_id, after, self._retry))

    async def wait(
        self, job_id: str, *, on_change: Callable[[Job], None] | None = None, timeout: float | None = None
    ) -> Job:
        """As `Client.wait`."""
        return await self._run(operations.wait(job_id, on_change, timeout, self._retry))


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
        """As `JobHandle.wait`."""
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
