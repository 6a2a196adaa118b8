"""Reading of jobs and their images, and the keys of their blobs. `lifecycle` changes jobs."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from clipcite.types.images import Image, ImageStats
from core.store.db.pagination import page
from core.store.db.tables import FEEDBACK, QUEUED, Job, JobImage
from core.store.db.text import sanitize_text
from core.store.errors import JobNotFound
from core.store.storage.blobs import Blobs


def get(session: Session, job_id: str, *, owner: str, lock: bool = False) -> Job:
    """Return a job. Raise JobNotFound if the owner has no such job.

    Args:
        lock: read the job again and lock it until the transaction ends. On SQLite the transaction itself is
            the lock (`Database.write`).
    """
    query = select(Job).where(Job.id == sanitize_text(job_id), Job.owner == owner)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    job = session.scalars(query).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    return job


def any_queued(session: Session) -> bool:
    """Return whether any owner has a queued job."""
    # Ordered like the index. Otherwise PostgreSQL would search all jobs.
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


def trained_hashes(session: Session, job_id: str | None) -> set[str]:
    """Return the SHA-256 of the files that the job trains on. Empty once it is deleted."""
    rows = select(JobImage.sha256).where(JobImage.job_id == job_id, JobImage.split == "train")
    return set(session.scalars(rows))


def image(session: Session, job_id: str, position: int) -> JobImage | None:
    return session.scalar(select(JobImage).where(JobImage.job_id == job_id, JobImage.position == position))


def image_of(row: JobImage) -> Image:
    return Image(
        row.blob_key,
        row.class_name,
        cast(Any, row.split),
        row.file_name,
        sha256=row.sha256,
        bytes=row.bytes,
        label_confirmed=row.label_confirmed,
        stats=None if row.stats is None else ImageStats(**row.stats),
    )


def columns_of(image: Image) -> dict[str, Any]:
    """Return the columns of a stored image."""
    return {
        "split": image.split,
        "class_name": image.class_name,
        "file_name": sanitize_text(image.file_name),
        "blob_key": image.content,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "label_confirmed": image.label_confirmed,
        "stats": None if image.stats is None else asdict(image.stats),
    }


def store_images(blobs: Blobs, folder: str, images: Sequence[Image]) -> list[Image]:
    """Store the images in a folder. Return them with the keys of their blobs."""
    stored = [replace(image, content=f"{folder}/{number:05d}.image") for number, image in enumerate(images)]
    blobs.put_all((str(new.content), image.read()) for new, image in zip(stored, images, strict=True))
    return stored


def blobs_of(job_id: str) -> str:
    """Return the folder of the job's blobs."""
    return f"jobs/{job_id}"


def report_of(job_id: str, number: str) -> str:
    """Return a key for a report. The report shows the job's images and is deleted with them.

    Each evaluation has its own `number`, so a worker that has lost its lease can't overwrite a report.
    """
    return f"{blobs_of(job_id)}/report-{number}.json"


def checkpoints_of(job_id: str) -> str:
    """Return the folder of the job's checkpoints. It lies in the job's folder and is deleted with it."""
    return f"jobs/{job_id}/checkpoints"
