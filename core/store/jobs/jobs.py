"""Jobs: what the API and the dispatcher ask of them. The worker's side is in `leases`, and all of
it is called as `jobs.…`.

queued -> running -> succeeded | failed | cancelled; running -> queued when its worker is lost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from core.store.accounts import owners
from core.store.db.ids import new_id
from core.store.db.pagination import page
from core.store.db.session import database_now
from core.store.db.tables import CANCELLED, FINAL, QUEUED, RUNNING, Job, JobEvent, JobImage
from core.store.db.text import sanitize_text
from core.store.errors import JobConflict, JobNotFound
from core.store.jobs import fair_queue
from core.store.jobs.events import after
from core.store.jobs.leases import (
    cancel,
    end_lease,
)
from core.store.jobs.transitions import append_event, locked, transition
from core.store.storage import deletions


@dataclass(frozen=True)
class NewImage:
    """An image whose bytes are stored already. Its position is its place in the upload."""

    split: str
    class_name: str
    file_name: str
    blob_key: str
    sha256: str
    bytes: int


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
) -> Job:
    """Queued and due now. The dispatcher sends it; nobody talks to the broker in a request.

    `reserved_bytes` is the room that its model is likely to need; `webhook` a URL, checked already.
    """
    at = database_now(session)
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
    )
    session.add(job)
    session.flush()
    rows = [
        {
            "id": new_id("pic"),
            "job_id": job_id,
            "position": position,
            "split": image.split,
            "class_name": image.class_name,
            "file_name": sanitize_text(image.file_name),  # shown, never used as a path
            "blob_key": image.blob_key,
            "sha256": image.sha256,
            "bytes": image.bytes,
        }
        for position, image in enumerate(images)
    ]
    if rows:
        session.execute(insert(JobImage), rows)
    append_event(session, job_id, at=at, type="queued", data={"images": len(rows)})
    return job


def get(session: Session, job_id: str, *, owner: str) -> Job:
    """Raises JobNotFound, for another owner's job too."""
    named = select(Job).where(Job.id == sanitize_text(job_id), Job.owner == owner)
    job = session.scalars(named).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    return job


def any_queued(session: Session) -> bool:
    return session.scalar(select(Job.id).where(Job.status == QUEUED).limit(1)) is not None


def list_page(
    session: Session, *, owner: str, status: str | None = None, limit: int, after: str | None = None
) -> tuple[list[Job], bool]:
    """Newest first, and whether there are more. Raises InvalidCursor."""
    rows = select(Job) if status is None else select(Job).where(Job.status == status)
    return page(session, rows, Job, owner=owner, limit=limit, after=after)


def queue_position(session: Session, job: Job) -> int | None:
    """1 is next; None unless queued."""
    return queue_positions(session, [job]).get(job.id)


def queue_positions(session: Session, jobs: Iterable[Job]) -> dict[str, int]:
    """The place in the queue of those that are queued, among the jobs of all owners."""
    waiting = [job.id for job in jobs if job.status == QUEUED]
    if not waiting:
        return {}
    queue = fair_queue.fair_queue()
    rows = session.execute(select(queue.c.id, queue.c.place).where(queue.c.id.in_(waiting)))
    return {job_id: place for job_id, place in rows}


def images(session: Session, job_id: str) -> list[JobImage]:
    """In the order of the upload."""
    return list(
        session.scalars(select(JobImage).where(JobImage.job_id == job_id).order_by(JobImage.position))
    )


def events(session: Session, job_id: str, after_seq: int = 0, *, owner: str) -> list[JobEvent]:
    """What happened after the event `after_seq`, in order. Raises JobNotFound."""
    get(session, job_id, owner=owner)
    return after(session, job_id, after_seq)


def request_cancel(session: Session, job_id: str, *, owner: str) -> Job:
    """A queued job is cancelled at once, a running one is asked to stop; again changes nothing.

    Raises JobNotFound, or JobConflict if the job has ended otherwise.
    """
    job = locked(session, job_id, owner=owner)
    if job is None:
        raise JobNotFound(job_id)
    if job.status in FINAL and job.status != CANCELLED:
        raise JobConflict(
            "job_already_finished", f"The job has {job.status} already, there is nothing left to cancel."
        )
    if job.status == CANCELLED or job.cancel_requested:
        return job
    at = database_now(session)
    if job.status == QUEUED:
        changed = cancel(session, job_id, token=None, allowed=[QUEUED], at=at)
    else:
        changed = transition(
            session, job_id, at=at, allowed=[RUNNING], event="cancel_requested", cancel_requested=True
        )
    return changed or get(session, job_id, owner=owner)


def delete(session: Session, job_id: str, *, owner: str) -> None:
    """The row, its images' rows and its events. After the commit the caller finishes the deletion
    of its `blobs_of`.

    Raises JobNotFound, or JobConflict while the job runs.
    """
    job = locked(session, job_id, owner=owner)
    if job is None:
        raise JobNotFound(job_id)
    if job.status == RUNNING:
        raise JobConflict(
            "job_running", f"The job is running. POST /jobs/{job_id}/cancel first, then delete it."
        )
    session.delete(job)  # images and events go with it, by their foreign keys
    deletions.mark_for_deletion(session, blobs_of(job.id))


def blobs_of(job_id: str) -> str:
    """The folder of its images."""
    return f"jobs/{job_id}"


def preflight_of(job_id: str) -> str:
    """The blob with what was said of its images when they came in; jobs of older versions have none."""
    return f"{blobs_of(job_id)}/preflight.json"


def report_of(job_id: str, model_id: str) -> str:
    """The blob with the report of an attempt. It goes with the job's images, which it shows."""
    return f"{blobs_of(job_id)}/report-{model_id}.json"


def expire_leases(session: Session, *, max_attempts: int) -> list[Job]:
    """Jobs whose worker is silent for too long: queued again, failed at the last attempt, or
    cancelled if that was asked for. Returns them as they are now."""
    at = database_now(session)
    silent = (
        select(Job)
        .where(Job.status == RUNNING, Job.lease_expires_at < at)
        .order_by(Job.created_at, Job.id)
        .with_for_update(skip_locked=True)
    )
    changed = []
    for job in session.scalars(silent, execution_options={"populate_existing": True}).all():
        times = "once" if job.attempts == 1 else f"{job.attempts} times"
        released = end_lease(
            session,
            job,
            at=at,
            attempts=job.attempts,
            exhausted=job.attempts >= max_attempts,
            reason="worker_lost",
            code="worker_lost",
            detail=(
                f"The worker {job.worker!r} stopped without a word while it ran this job, which was started "
                f"{times}. Most often its machine ran out of memory: try a smaller batch_size or image_size, "
                "or look into the worker's log."
            ),
        )
        if released is not None:
            changed.append(released)
    return changed


def take_due(session: Session, *, redispatch_seconds: float, ahead: int, max_running: int = 0) -> list[str]:
    """The ids to send now, in the order of `owners.fair_queue`, and of no owner more than
    `max_running` at a time (0: any number). Each is due again after `redispatch_seconds`, in case
    that its message is lost. No more than `ahead` messages are out at a time: what waits in the
    database is in order, survives, and can be cancelled."""
    at = database_now(session)
    lost_before = at - timedelta(seconds=redispatch_seconds)
    sent = select(func.count()).where(Job.status == QUEUED, Job.dispatched_at > lost_before)
    room = ahead - (session.scalar(sent) or 0)
    if room <= 0:
        return []
    line = fair_queue.fair_queue(at, lost_before)
    fair = select(line.c.id).order_by(line.c.place).limit(room)
    if max_running:
        fair = fair.where(line.c.turn <= max_running)
    order = session.scalars(fair).all()
    # Another dispatcher may have taken some of them since, or be about to.
    due = session.scalars(
        select(Job)
        .where(Job.id.in_(order), Job.status == QUEUED, *owners.due(at, lost_before))
        .with_for_update(skip_locked=True),
        execution_options={"populate_existing": True},
    ).all()
    for job in due:
        job.dispatched_at = at
    session.flush()
    return sorted((job.id for job in due), key=order.index)
