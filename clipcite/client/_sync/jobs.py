"""What a client does with jobs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clipcite.client import job_requests, operations
from clipcite.client._sync.transport import Connection
from clipcite.client.errors import JobFailed
from clipcite.client.job_requests import OnBadImage
from clipcite.client.multipart import OnUpload
from clipcite.client.report_types import Preflight, Report
from clipcite.client.types import Event, Job, Status
from clipcite.client.upload import Adaptable, upload_of
from clipcite.datasets.dataset import ByClass


class Jobs(Connection):
    def adapt(
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
    ) -> "JobHandle":
        """Upload labelled pictures and start an adaptation.

        Args:
            pictures: a folder (of class folders, with a manifest, or of an export), a manifest, a zip or
                tar (repacked as a zip), or a mapping from class names to paths, bytes, PIL images or
                uint8 arrays.
            test: pictures to measure the result on, for a mapping.
            extends: a model: the pictures that it was made from are taken as well, under its name and with
                its settings where nothing else is said. The model itself stays as it is.
            config: settings such as `{"epochs": 10}`; the backbone's recipe has the rest.
            on_bad_image: "skip" goes on without pictures that can't be used.
            idempotency_key: default a new one. With one of your own a program that is started again makes no
                second job.
            on_upload: called with the bytes sent and, where it is known, their number.

        Raises:
            InvalidImages: nothing was sent.
            UnprocessableEntityError: `errors` names each bad picture.
        """
        upload = upload_of(pictures, test)
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
        return JobHandle(self, self._run(operations.send_upload(upload, call, self._retry)))

    def look(
        self,
        pictures: Adaptable,
        *,
        test: ByClass | None = None,
        extends: str | None = None,
        config: Mapping[str, Any] | None = None,
        on_bad_image: OnBadImage = "fail",
        on_upload: OnUpload | None = None,
    ) -> Preflight:
        """What `adapt` would find in these pictures and names, and what the training would take. Nothing is
        stored, and pictures that can't be read are findings, not errors."""
        upload = upload_of(pictures, test)
        call = job_requests.dry_run(
            upload.fields,
            upload.parts,
            extends=extends,
            config=config or {},
            on_bad_image=on_bad_image,
            on_upload=on_upload,
        )
        return self._run(operations.send_look(upload, call, self._retry))

    def job(self, job_id: str) -> "JobHandle":
        """A job of earlier, to wait for, say."""
        return JobHandle(self, self.get_job(job_id))

    def get_job(self, job_id: str) -> Job:
        return self._send(job_requests.get_job(job_id))

    def jobs(self, status: Status | None = None, *, page_size: int = 100) -> Iterator[Job]:
        """All of them, the newest first, read page by page."""
        return self._iterate(operations.pages(lambda c: job_requests.jobs(status, page_size, c), self._retry))

    def cancel(self, job_id: str) -> Job:
        return self._send(job_requests.cancel(job_id))

    def delete_job(self, job_id: str) -> None:
        """The job and its pictures; its model stays."""
        self._send(job_requests.delete_job(job_id))

    def preflight(self, job_id: str) -> Preflight:
        """What was found in the job's pictures when they came in."""
        return self._send(job_requests.preflight(job_id))

    def report(self, job_id: str) -> Report:
        """Whether to trust the job's model. Raises NotFoundError as long as there is none."""
        return self._send(job_requests.report(job_id))

    def report_page(self, job_id: str) -> str:
        """The same as a page of HTML with the pictures in it, to keep and to send on."""
        return self._send(job_requests.report_page(job_id))

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What has happened so far."""
        return self._send(job_requests.events(job_id, after))

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


class JobHandle:
    """A job of a client."""

    def __init__(self, client: Jobs, job: Job) -> None:
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

    def preflight(self) -> Preflight:
        return self._client.preflight(self.id)

    def report(self) -> Report:
        return self._client.report(self.id)

    def report_page(self) -> str:
        return self._client.report_page(self.id)

    def follow(self, after: int = 0) -> Iterator[Event]:
        return self._client.follow(self.id, after)

    def delete(self) -> None:
        self._client.delete_job(self.id)
