"""The checkpoints of a job: where they are stored, and that they go when the job ends.

They lie in a folder below the job's images, so that deleting the job removes them too. An event of the
job says of each that it is there.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.db.tables import JobEvent
from core.store.storage import deletions

CHECKPOINT = "checkpoint"
RESUMED = "resumed"


def folder_of(job_id: str) -> str:
    return f"jobs/{job_id}/checkpoints"


def note_end(session: Session, job_id: str) -> None:
    """In the transaction that ends the job: nobody will go on from its checkpoints, if it has any."""
    stored = select(JobEvent.seq).where(JobEvent.job_id == job_id, JobEvent.type == CHECKPOINT).limit(1)
    if session.scalar(stored) is not None:
        deletions.mark_for_deletion(session, folder_of(job_id))
