"""Operations of the /jobs routes, one function per route."""

import time

from fastapi import Request

from api.jobs.event_hub import EventHub
from api.threads import REQUESTS
from clipcite.wire.adapt import Preflight
from clipcite.wire.jobs import Job, JobPage, Status, Until
from core.serving.service import Serving
from core.store.accounts import audit
from core.store.db import tables
from core.store.db.pagination import cursor_of
from core.store.db.session import Database
from core.store.db.tables import FINAL
from core.store.db.text import sanitize_text
from core.store.errors import BlobNotFound, PreflightNotFound
from core.store.jobs import events, fair_queue, jobs
from core.store.jobs.leases import PUBLISHED
from core.store.storage import deletions
from core.store.storage.blobs import Blobs

DISCONNECT_SECONDS = 1.0
"""Interval at which a waiting request looks for a lost client."""


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
    request: Request,
    database: Database,
    hub: EventHub,
    owner: str,
    job_id: str,
    seconds: float,
    until: Until,
) -> Job:
    """Return the job as soon as it has ended, or has a model with `until` "model".

    The wait also ends after `seconds`, at shutdown, and when the client disconnects. It costs no query: the
    job is read before and after.

    Raises:
        JobNotFound: the owner has no such job.
        TooManyStreams: the owner waits for too many jobs already.
    """
    if not seconds or request.app.state.stopping.is_set():
        return await REQUESTS.run(get_job, database, owner, job_id)
    job, seen = await REQUESTS.run(_get_with_seq, database, owner, job_id)
    if job.status in FINAL:
        return job
    if until == "model" and job.model_id is not None:
        return await REQUESTS.run(get_job, database, owner, job_id)
    hub.check_room(owner)
    awaited = {*FINAL, PUBLISHED} if until == "model" else FINAL
    deadline = time.monotonic() + seconds
    with hub.listen(job_id, seen, owner) as listener:
        while (left := deadline - time.monotonic()) > 0:
            if request.app.state.stopping.is_set() or await request.is_disconnected():
                break
            received = await listener.next(min(left, DISCONNECT_SECONDS))
            if received is None or any(event.type in awaited for event in received):
                break
    return await REQUESTS.run(get_job, database, owner, job_id)


def _get_with_seq(database: Database, owner: str, job_id: str) -> tuple[Job, int]:
    """Return the job and the number of its newest event, which is not newer than the job.

    The job is without its position in the queue, which takes as long as the rest.
    """
    with database.read() as session:
        seen = events.last_seq(session, sanitize_text(job_id))
        return to_job(jobs.get(session, job_id, owner=owner), None), seen


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
