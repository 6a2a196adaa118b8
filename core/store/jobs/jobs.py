"""Jobs: operations of the API and the dispatcher. Those of the worker are in `leases`.

States: queued -> running -> succeeded | failed | cancelled, and running -> queued if the worker is lost. A
job with a model can only succeed: then its evaluation is what fails or is cancelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from core.log import current
from core.store.accounts import audit
from core.store.db.ids import new_id
from core.store.db.pagination import page
from core.store.db.session import database_now
from core.store.db.tables import CANCELLED, FEEDBACK, FINAL, QUEUED, RUNNING, Job, JobImage
from core.store.db.text import sanitize_text
from core.store.errors import Conflict, JobNotFound
from core.store.jobs.endings import EVALUATION_CANCELLED, cancel, end_lease
from core.store.jobs.transitions import append_event, locked, of_request, transition
from core.store.storage import deletions

FAR_LEASES = 10
"""Number of lease durations after which no true lease ends, also if a worker's setting differs."""


@dataclass(frozen=True)
class NewImage:
    """Image whose bytes are already stored. Its position is its index in the upload."""

    split: str
    class_name: str
    file_name: str
    blob_key: str
    sha256: str
    bytes: int
    label_confirmed: bool = False


def create(
    session: Session,
    *,
    job_id: str,
    owner: str,
    name: str | None,
    config: dict[str, Any],
    classes: list[dict[str, Any]],
    warnings: list[dict[str, Any]],
    images: Sequence[NewImage],
    reserved_bytes: int = 0,
    webhook: str | None = None,
    traceparent: str | None = None,
) -> Job:
    """Create a queued job that is due now. The dispatcher sends its wake-up, so requests need no broker.

    Its blobs are stored, and `blobs_of` was announced before (`deletions`).

    Args:
        reserved_bytes: expected size of the job's model.
        webhook: URL that was already checked.
        traceparent: trace of the request.
    """
    at = database_now(session)
    request_id = current("request_id")
    job = Job(
        id=job_id,
        owner=owner,
        name=name,
        status=QUEUED,
        cancel_requested=False,
        config=config,
        classes=classes,
        warnings=warnings,
        attempts=0,
        available_at=at,
        created_at=at,
        image_bytes=sum(image.bytes for image in images),
        reserved_bytes=reserved_bytes,
        webhook=webhook,
        traceparent=traceparent,
        request_id=request_id,
        created_by=audit.actor().key_id,
    )
    session.add(job)
    session.flush()
    deletions.keep(session, blobs_of(job_id))
    rows = [
        {
            **vars(image),
            "id": new_id("pic"),
            "job_id": job_id,
            "position": position,
            "file_name": sanitize_text(image.file_name),  # shown, never used as a path
        }
        for position, image in enumerate(images)
    ]
    if rows:
        session.execute(insert(JobImage), rows)
    append_event(session, job_id, at=at, type="queued", data={"images": len(rows), **of_request(request_id)})
    return job


def get(session: Session, job_id: str, *, owner: str) -> Job:
    """Return a job. Raise JobNotFound if the owner has no such job."""
    query = select(Job).where(Job.id == sanitize_text(job_id), Job.owner == owner)
    job = session.scalars(query).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    return job


def any_queued(session: Session) -> bool:
    """Return whether any owner has a queued job."""
    # In the order of the index. PostgreSQL would otherwise look for the first one among all jobs.
    queued = select(Job.id).where(Job.status == QUEUED).order_by(Job.created_at, Job.id).limit(1)
    return session.scalar(queued) is not None


def list_page(
    session: Session, *, owner: str, status: str | None = None, limit: int, after: str | None = None
) -> tuple[list[Job], bool]:
    """Return a page of jobs, newest first, and whether there are more.

    Raises:
        InvalidCursor: `after` is not a cursor.
    """
    rows = select(Job) if status is None else select(Job).where(Job.status == status)
    return page(session, rows, Job, owner=owner, limit=limit, after=after)


def images(session: Session, job_id: str) -> list[JobImage]:
    """Return the job's images in the order of the upload, without corrections."""
    rows = select(JobImage).where(JobImage.job_id == job_id, JobImage.split != FEEDBACK)
    return list(session.scalars(rows.order_by(JobImage.position)))


def image(session: Session, job_id: str, position: int) -> JobImage | None:
    return session.scalar(select(JobImage).where(JobImage.job_id == job_id, JobImage.position == position))


def request_cancel(session: Session, job_id: str, *, owner: str) -> Job:
    """Cancel a queued job, or ask a running one to stop. Repeated calls change nothing.

    Raises:
        JobNotFound: the owner has no such job.
        Conflict: the job has succeeded or failed.
    """
    job = locked(session, job_id, owner=owner)
    if job is None:
        raise JobNotFound(job_id)
    if any(notice["code"] == EVALUATION_CANCELLED for notice in job.warnings):
        return job
    if job.status in FINAL and job.status != CANCELLED:
        raise Conflict(
            "job_already_finished",
            f"The job has already {job.status} and can't be cancelled. Delete it with DELETE /jobs/{job_id}.",
        )
    if job.status == CANCELLED or job.cancel_requested:
        return job
    at = database_now(session)
    if job.status == QUEUED:
        changed = cancel(session, job_id, token=None, before=QUEUED, at=at)
    else:
        changed = transition(
            session, job_id, at=at, before=RUNNING, event="cancel_requested", cancel_requested=True
        )
    return changed or get(session, job_id, owner=owner)


def delete(session: Session, job_id: str, *, owner: str) -> None:
    """Delete the job with its images and events. After the commit the caller must delete its `blobs_of`.

    Raises:
        JobNotFound: the owner has no such job.
        Conflict: the job is running.
    """
    job = locked(session, job_id, owner=owner)
    if job is None:
        raise JobNotFound(job_id)
    if job.status == RUNNING:
        raise Conflict(
            "job_running", f"The job is running. Cancel it with POST /jobs/{job_id}/cancel, then delete it."
        )
    if job.status == QUEUED and job.model_id is not None:  # its model stays, without an evaluation
        cancel(session, job_id, token=None, before=QUEUED, at=database_now(session))
    session.delete(job)  # foreign keys cascade to images and events
    session.flush()
    deletions.mark_for_deletion(session, blobs_of(job.id))


def blobs_of(job_id: str) -> str:
    """Return the folder of the job's blobs."""
    return f"jobs/{job_id}"


def report_of(job_id: str, number: str) -> str:
    """Return a key for a report. It is deleted with the job's images, which the report shows.

    Each evaluation has its own `number`, so that a worker without a lease overwrites nothing.
    """
    return f"{blobs_of(job_id)}/report-{number}.json"


def expire_leases(session: Session, *, max_attempts: int, lease_seconds: float) -> list[Job]:
    """End the expired leases of lost workers. Return the changed jobs.

    A job is requeued, fails at its last attempt, or is cancelled if that was requested. A lease that ends far
    in the future was renewed while the clock was ahead. It is shortened, and a living worker renews it.
    """
    at = database_now(session)
    lease = timedelta(seconds=lease_seconds)
    session.execute(
        update(Job)
        .where(Job.status == RUNNING, Job.lease_expires_at > at + FAR_LEASES * lease)
        .values(lease_expires_at=at + lease),
        execution_options={"synchronize_session": False},
    )
    expired = (
        select(Job)
        .where(Job.status == RUNNING, Job.lease_expires_at < at)
        .order_by(Job.created_at, Job.id)
        .with_for_update(skip_locked=True)
    )
    changed = []
    for job in session.scalars(expired, execution_options={"populate_existing": True}).all():
        times = "once" if job.attempts == 1 else f"{job.attempts} times"
        released = end_lease(
            session,
            job,
            at=at,
            attempts=job.attempts,
            exhausted=job.attempts >= max_attempts,
            code="worker_lost",
            detail=(
                f"The worker {job.worker!r} stopped responding while it ran this job, which was started "
                f"{times}. The usual cause is a lack of memory. Try a smaller batch_size or image_size, or "
                "check the worker's log."
            ),
        )
        if released is not None:
            changed.append(released)
    return changed
