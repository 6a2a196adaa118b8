"""Operations of the /jobs routes, one function per route."""

from fastapi import Request

from api.jobs.event_stream import EventSource
from api.threads import REQUESTS
from clipcite.wire.adapt import Preflight
from clipcite.wire.jobs import Job, JobPage, Status, Until
from core.serving.service import Serving
from core.store.accounts import audit
from core.store.db import tables
from core.store.db.pagination import cursor_of
from core.store.db.session import Database
from core.store.db.tables import FINAL
from core.store.errors import BlobNotFound, PreflightNotFound
from core.store.jobs import fair_queue, jobs
from core.store.jobs.leases import PUBLISHED
from core.store.storage import deletions
from core.store.storage.blobs import Blobs


def to_job(row: tables.Job, queue_position: int | None) -> Job:
    error = None
    if row.error_code is not None:
        error = {"code": row.error_code, "detail": row.error_detail or ""}
    columns = {name: getattr(row, name) for name in Job.model_fields if hasattr(row, name)}
    return Job.model_validate({**columns, "queue_position": queue_position, "error": error})


def list_jobs(
    database: Database, owner: str, status: Status | None, limit: int, after: str | None
) -> JobPage:
    with database.read() as session:
        page, more = jobs.list_page(session, owner=owner, status=status, limit=limit, after=after)
        positions = fair_queue.positions(session, page)
    data = [to_job(job, positions.get(job.id)) for job in page]
    return JobPage(data=data, has_more=more, next_cursor=cursor_of(page[-1]) if more else None)


def get_job(database: Database, owner: str, job_id: str) -> Job:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        return to_job(job, fair_queue.position(session, job))


async def wait_for_job(
    request: Request, source: EventSource, owner: str, job_id: str, seconds: float, until: Until
) -> Job:
    """Return the job as soon as it has ended, or has a model with `until` "model".

    The wait also ends after `seconds`, at shutdown, and when the client disconnects.

    Raises:
        JobNotFound: the owner has no such job.
        ServerBusy: too many requests wait.
    """
    job = await REQUESTS.run(get_job, source.database, owner, job_id)
    if not seconds or job.reached(until):
        return job
    awaited = {*FINAL, PUBLISHED} if until == "model" else FINAL
    with source.readers.admit(owner, slots=1):
        # From the first event on, since the awaited one may have come meanwhile.
        async for newer in source.follow(owner, job.id, 0, seconds):
            if any(event.type in awaited for event in newer) or await request.is_disconnected():
                break
    return await REQUESTS.run(get_job, source.database, owner, job_id)


def cancel_job(database: Database, owner: str, job_id: str) -> Job:
    with database.write() as session:
        before = jobs.get(session, job_id, owner=owner)
        ended = before.cancel_requested or before.status in FINAL
        job = jobs.request_cancel(session, job_id, owner=owner)
        if not ended:
            audit.record(session, "job.cancel", job.id)
        return to_job(job, fair_queue.position(session, job))


def delete_job(database: Database, blobs: Blobs, serving: Serving, owner: str, job_id: str) -> None:
    with database.write() as session:
        jobs.delete(session, job_id, owner=owner)
        audit.record(session, "job.delete", job_id)
    serving.previews.forget(job_id)
    deletions.finish(database, blobs, jobs.blobs_of(job_id))


def get_preflight(database: Database, blobs: Blobs, owner: str, job_id: str) -> Preflight:
    """Return the stored preflight.

    Raises:
        JobNotFound: the owner has no such job.
        PreflightNotFound: its file is missing in the storage.
    """
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
    try:
        return Preflight.model_validate_json(blobs.get(jobs.preflight_of(job.id)))
    except BlobNotFound as error:
        raise PreflightNotFound(job.id) from error
