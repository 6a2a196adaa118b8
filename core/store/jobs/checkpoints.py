"""Checkpoints of a job: their folder, and their deletion at the job's end.

The folder is inside the job's folder, so that deleting the job deletes its checkpoints too. Each stored
checkpoint has an event of the job.
"""

from sqlalchemy.orm import Session

from core.store.db.tables import Job
from core.store.storage import deletions

CHECKPOINT = "checkpoint"
RESUMED = "resumed"


def folder_of(job_id: str) -> str:
    """Return the folder of a job's checkpoints."""
    return f"jobs/{job_id}/checkpoints"


def mark_for_deletion(session: Session, job: Job) -> None:
    """Mark the job's checkpoints, if any, for deletion. Call this in the transaction that ends the job."""
    if job.started_at is not None:
        deletions.mark_for_deletion(session, folder_of(job.id))
