"""Operations of the /jobs routes, one function per route."""

import asyncio
import time

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.jobs.schemas import Job, JobPage, Preflight, Status, Until
from core.serving.service import Serving
from core.store.db.pagination import cursor_of
from core.store.db.session import Database
from core.store.db.tables import FINAL
from core.store.errors import BlobNotFound, PreflightNotFound
from core.store.jobs import jobs
from core.store.storage import deletions
from core.store.storage.blobs import Blobs

WAIT_POLL_SECONDS = 0.25


def list_jobs(
    database: Database, owner: str, status: Status | None, limit: int, after: str | None
) -> JobPage:
    with database.read() as session:
        page, more = jobs.list_page(session, owner=owner, status=status, limit=limit, after=after)
        positions = jobs.queue_positions(session, page)
    data = [Job.of(job, positions.get(job.id)) for job in page]
    return JobPage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


def get_job(database: Database, owner: str, job_id: str) -> Job:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return Job.of(job, jobs.queue_position(session, job))


async def wait_for_job(
    request: Request, database: Database, owner: str, job_id: str, seconds: float, until: Until
) -> Job:
    """Return the job as soon as it has ended, or has a model with `until` "model".

    The wait also ends after `seconds`, at shutdown, and when the client disconnects.
    """
    deadline = time.monotonic() + seconds
    while True:
        job = await run_in_threadpool(get_job, database, owner, job_id)
        reached = job.status in FINAL or (until == "model" and job.model_id is not None)
        stopping = request.app.state.stopping.is_set()
        if reached or time.monotonic() >= deadline or stopping or await request.is_disconnected():
            return job
        await asyncio.sleep(WAIT_POLL_SECONDS)


def cancel_job(database: Database, owner: str, job_id: str) -> Job:
    with database.write() as session:
        job = jobs.request_cancel(session, job_id, owner=owner)
        return Job.of(job, jobs.queue_position(session, job))


def delete_job(database: Database, blobs: Blobs, serving: Serving, owner: str, job_id: str) -> None:
    with database.write() as session:
        jobs.delete(session, job_id, owner=owner)
    serving.previews.forget(job_id)
    deletions.finish(database, blobs, jobs.blobs_of(job_id))


def get_preflight(database: Database, blobs: Blobs, owner: str, job_id: str) -> Preflight:
    """Return the stored preflight.

    Raises:
        JobNotFound: the owner has no such job.
        PreflightNotFound: an older version without preflights created the job.
    """
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
    try:
        return Preflight.model_validate_json(blobs.get(jobs.preflight_of(job.id)))
    except BlobNotFound as error:
        raise PreflightNotFound(job.id) from error
