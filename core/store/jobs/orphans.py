"""Marks on stored folders without an owning row.

The age of an orphan is the time since it was first seen, by the database's clock. The storage's clock and
file dates do not count.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import FINAL, Job, Model, Orphan
from core.store.jobs import checkpoints
from core.store.storage import installation

BATCH_SIZE = 500
"""Folders per statement."""
CAP_PERIOD = timedelta(hours=1)
SUSPICIOUS_SHARE = 0.1
"""Share of orphans among all folders above which the database is probably an old backup."""


def suspicion(marked: int, folders: int) -> str:
    """Return why nothing is deleted, with the remedy."""
    return (
        f"{marked} of {folders} stored folders have no owner, perhaps because the database is an old backup. "
        "None of them is deleted. Restore the newest backup of the database. If they may be deleted, list "
        "them with `clipcite sweep --dry-run`, then delete the due ones with `clipcite sweep --yes`."
    )


def owned(session: Session, prefixes: Sequence[str]) -> set[str]:
    """Return the folders whose job or model exists, and which must not be deleted.

    Checkpoints are no longer owned once their job has ended. The limit is BATCH_SIZE folders; the cost is at
    most two statements.
    """
    parts = [prefix.split("/") for prefix in prefixes]
    job_ids = {part[1] for part in parts if part[0] == "jobs"}
    model_ids = {part[1] for part in parts if part[0] == "models"}
    jobs: dict[str, str] = {}
    if job_ids:
        rows = session.execute(select(Job.id, Job.status).where(Job.id.in_(job_ids)))
        jobs = {job_id: status for job_id, status in rows}
    models = set(session.scalars(select(Model.id).where(Model.id.in_(model_ids)))) if model_ids else set()
    result = set()
    for prefix, part in zip(prefixes, parts, strict=True):
        if part[0] == "models":
            is_owned = part[1] in models
        elif part[0] == "jobs" and len(part) > 2:  # without the job, its whole folder is the orphan
            is_owned = jobs.get(part[1]) not in FINAL
        else:
            is_owned = part[0] == "jobs" and part[1] in jobs
        if is_owned:
            result.add(prefix)
    return result


def ended_jobs(session: Session, *, ended_for: timedelta) -> list[tuple[str, datetime]]:
    """Return id and end of jobs that were not yet checked for leftover checkpoints.

    The oldest come first; the limit is BATCH_SIZE.
    """
    jobs = select(Job.id, Job.finished_at).where(
        Job.finished_at <= database_now(session) - ended_for, Job.started_at.is_not(None)
    )
    until = installation.find(session).checkpoints_until
    if until is not None:
        jobs = jobs.where(Job.finished_at > until)
    rows = session.execute(jobs.order_by(Job.finished_at).limit(BATCH_SIZE))
    return [(job_id, at) for job_id, at in rows if at is not None]


def mark_checkpoints(session: Session, job_id: str, ended: datetime) -> None:
    """Mark a job's checkpoints as orphans since its end."""
    prefix = checkpoints.folder_of(job_id)
    if session.get(Orphan, prefix) is None:
        session.add(Orphan(prefix=prefix, first_seen=ended))


def all_marks(session: Session) -> list[Orphan]:
    """Return all marks, the oldest first."""
    return list(session.scalars(select(Orphan).order_by(Orphan.first_seen, Orphan.prefix)))


def count_folders(session: Session) -> int:
    """Return the number of marked folders of jobs and models that are not deleted yet."""
    folder = or_(Orphan.prefix.like("jobs/%"), Orphan.prefix.like("models/%"))
    waits = (Orphan.deleted_at.is_(None), folder, Orphan.prefix.not_like("%/%/%"))
    return session.scalar(select(func.count()).select_from(Orphan).where(*waits)) or 0


def mark(session: Session, prefixes: Sequence[str]) -> None:
    """Mark up to BATCH_SIZE folders as orphans. Existing marks are kept."""
    installation.find(session, lock=True)  # another process may mark the same folders
    known = set(session.scalars(select(Orphan.prefix).where(Orphan.prefix.in_(prefixes))))
    at = database_now(session)
    session.add_all(Orphan(prefix=prefix, first_seen=at) for prefix in prefixes if prefix not in known)


def unmark(session: Session, prefixes: Collection[str]) -> None:
    """Remove the marks of up to BATCH_SIZE folders."""
    session.execute(delete(Orphan).where(Orphan.prefix.in_(prefixes)))


def rearm(session: Session, prefixes: Collection[str]) -> None:
    """Reset the claims on up to BATCH_SIZE folders whose deletion was interrupted. They are due as before."""
    session.execute(update(Orphan).where(Orphan.prefix.in_(prefixes)).values(deleted_at=None))


def deleted_lately(session: Session) -> int:
    """Return the number of folders that all processes deleted within the last hour."""
    since = database_now(session) - CAP_PERIOD
    return session.scalar(select(func.count()).select_from(Orphan).where(Orphan.deleted_at > since)) or 0


def claim(session: Session, prefix: str, *, grace: timedelta, most: int | None) -> bool | None:
    """Check the folder's owner again and claim its deletion for this process.

    Args:
        grace: minimum time since the folder was first seen.
        most: maximum folders per hour that all processes together may delete; None means no limit.

    Returns:
        True if the caller must delete the folder now. False if the folder has an owner, is too young, or is
        claimed by another process. None if the limit is reached.
    """
    installation.find(session, lock=True)
    if most is not None and deleted_lately(session) >= most:
        return None
    if owned(session, [prefix]):
        unmark(session, [prefix])
        return False
    at = database_now(session)
    free = (Orphan.prefix == prefix, Orphan.deleted_at.is_(None), Orphan.first_seen <= at - grace)
    claimed = session.scalars(update(Orphan).where(*free).values(deleted_at=at).returning(Orphan.prefix))
    return claimed.one_or_none() is not None
