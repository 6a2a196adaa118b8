"""Training jobs."""

import time
from collections.abc import AsyncIterator, Callable, Sequence

import anyio

from clipcite.client._async.transport import AsyncTransport
from clipcite.client.request import Request, path_of
from clipcite.client.retry import RETRYABLE, is_over
from clipcite.errors import APIConnectionError, APIStatusError, JobFailed, WaitTimeout
from clipcite.types.jobs import Event, Status, Until
from clipcite.types.jobs import Job as JobData
from clipcite.types.report import Metrics, Report

POLL_SECONDS = 0.5
CLOCK_SECONDS = 0.05
"""A connection may time out this much before a deadline (seconds)."""


class AsyncJobs:
    """Operations on training jobs: `client.jobs`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self, job_id: str) -> "AsyncJob":
        """Return the job with this id."""
        return self._bind(await self._transport.fetch(JobData, Request("GET", path_of("jobs", job_id))))

    async def list(self, status: Status | None = None, *, page_size: int = 100) -> AsyncIterator["AsyncJob"]:
        """Yield all jobs, newest first, fetched page by page."""
        query = {"limit": str(page_size), "status": status}
        async for data in self._transport.pages(JobData, "/jobs", query):
            yield self._bind(data)

    async def cancel(self, job_id: str) -> "AsyncJob":
        """Cancel the job, or only the evaluation if there is a model. A running job stops within seconds."""
        request = Request("POST", path_of("jobs", job_id, "cancel"))
        return self._bind(await self._transport.fetch(JobData, request))

    async def delete(self, job_id: str) -> None:
        """Delete the job and its images. Its model remains."""
        await self._transport.send(Request("DELETE", path_of("jobs", job_id)))

    async def report(self, job_id: str) -> Report:
        """Return the evaluation of the job's model.

        Raises:
            NotFoundError: the job has no report, or not yet (`report_pending`).
        """
        return await self._transport.fetch(Report, Request("GET", path_of("jobs", job_id, "report")))

    async def report_page(self, job_id: str) -> str:
        """Return the report as one self-contained HTML page with the images."""
        request = Request("GET", path_of("jobs", job_id, "report"), headers={"Accept": "text/html"})
        return (await self._transport.send(request)).content.decode()

    async def events(self, job_id: str, after: int = 0) -> Sequence[Event]:
        """Return the events so far with `seq` above `after`."""
        request = Request("GET", path_of("jobs", job_id, "events"), {"after": str(after)})
        return await self._transport.fetch_list(Event, request)

    async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Yield events as they happen, until the job has ended. Survives a restart of the service."""
        job, path = Request("GET", path_of("jobs", job_id)), path_of("jobs", job_id, "events")
        patient = self._transport.retry.patient
        while True:
            finished = (await self._transport.fetch(JobData, job, patient)).finished
            request = Request("GET", path, {"after": str(after)})
            for event in await self._transport.fetch_list(Event, request, patient):
                after = event.seq
                yield event
                if event.ends_job:
                    return
            if finished:
                return
            await anyio.sleep(POLL_SECONDS)

    async def wait(
        self,
        job_id: str,
        *,
        until: Until = "end",
        on_change: Callable[["AsyncJob"], None] | None = None,
        timeout: float | None = None,
    ) -> "AsyncJob":
        """Wait until the job has ended, successfully or not. Survives a restart of the service.

        Args:
            job_id: id of the job.
            until: "model" waits only until the model is usable. Its evaluation follows.
            on_change: called with a copy of the job after every change, for example of `progress`.
            timeout: maximum wait (seconds, default: none).

        Raises:
            WaitTimeout: the job has not ended within `timeout`. It continues.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        request = Request("GET", path_of("jobs", job_id))
        retry = self._transport.retry
        job: AsyncJob | None = None
        try:
            while True:
                before, job = job, self._bind(await self._transport.fetch(JobData, request, retry, deadline))
                if on_change is not None and (before is None or job.raw != before.raw):
                    on_change(job)
                if job.reached(until):
                    return job
                if is_over(deadline):
                    raise WaitTimeout(job_id, job)
                left = POLL_SECONDS if deadline is None else deadline - time.monotonic()
                await anyio.sleep(min(POLL_SECONDS, max(0, left)))
                retry = self._transport.retry.patient
        except (APIConnectionError, APIStatusError) as error:
            passing = isinstance(error, APIConnectionError) or error.status in RETRYABLE
            if passing and is_over(deadline, CLOCK_SECONDS):
                raise WaitTimeout(job_id, job) from error
            raise

    def _bind(self, data: JobData) -> "AsyncJob":
        job = AsyncJob.model_construct(**vars(data))
        job._raw, job._jobs = data.raw, self
        return job


class AsyncJob(JobData):
    """A training job. Its attributes are as last fetched. `wait`, `refresh` and `cancel` update them."""

    _jobs: AsyncJobs

    async def wait(
        self,
        *,
        until: Until = "end",
        on_change: Callable[["AsyncJob"], None] | None = None,
        timeout: float | None = None,
    ) -> "AsyncTrainedJob":
        """Wait until the job has succeeded. Survives a restart of the service.

        Args:
            until: "model" waits only until the model is usable. Its evaluation follows.
            on_change: called with a copy of the job after every change, for example of `progress`.
            timeout: maximum wait (seconds, default: none).

        Returns:
            The job with its model. The attributes of this job are also updated.

        Raises:
            JobFailed: the job failed or was cancelled.
            WaitTimeout: the job has not ended within `timeout`. It continues.
        """
        self._update(await self._jobs.wait(self.id, until=until, on_change=on_change, timeout=timeout))
        if self.model_id is None:
            raise JobFailed(self)
        trained = AsyncTrainedJob.model_construct(**vars(self))
        trained.metrics = self.metrics or Metrics(verdict="not_evaluated")
        trained._raw, trained._jobs = self.raw, self._jobs
        return trained

    async def refresh(self) -> "AsyncJob":
        """Fetch the current state."""
        return self._update(await self._jobs.get(self.id))

    async def cancel(self) -> "AsyncJob":
        """Cancel the job, or only the evaluation if there is a model. A running job stops within seconds."""
        return self._update(await self._jobs.cancel(self.id))

    async def delete(self) -> None:
        """Delete the job and its images. Its model remains."""
        await self._jobs.delete(self.id)

    async def report(self) -> Report:
        """Return the evaluation of the model.

        Raises:
            NotFoundError: the job has no report, or not yet (`report_pending`).
        """
        return await self._jobs.report(self.id)

    async def report_page(self) -> str:
        """Return the report as one self-contained HTML page with the images."""
        return await self._jobs.report_page(self.id)

    async def events(self, after: int = 0) -> Sequence[Event]:
        """Return the events so far with `seq` above `after`."""
        return await self._jobs.events(self.id, after)

    def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield events as they happen, until the job has ended. Survives a restart of the service."""
        return self._jobs.follow(self.id, after)

    def _update(self, current: "AsyncJob") -> "AsyncJob":
        vars(self).update(vars(current))
        self._raw = current._raw
        return self


class AsyncTrainedJob(AsyncJob):
    """A training job that has a model."""

    model_id: str
    metrics: Metrics
