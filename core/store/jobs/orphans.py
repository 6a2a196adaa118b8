"""Marks on stored folders that no row owns. Their age is the time since the first look, by the
database's clock: neither the clock nor the dates of the storage count."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from core.store.db.session import database_now
from core.store.db.tables import FINAL, Job, Model, Orphan
from core.store.jobs import checkpoints
from core.store.storage import installation

BATCH_SIZE = 500
"""Folders in one statement."""
CAP_PERIOD = timedelta(hours=1)
SUSPICIOUS_SHARE = 0.1
"""More orphans among all folders look like an older database."""


def suspicion(marked: int, folders: int) -> str:
    """Reason why nothing is deleted, and what to do."""
    return (
        f"Nobody owns {marked} of {folders} stored folders. A database of an older state would look so, and "
        "none of them is deleted. Restore the newest backup of the database. If they may go: `clipcite sweep "
        "--dry-run` lists them, `clipcite sweep --yes` deletes them when they are due."
    )


def owned(session: Session, prefixes: Sequence[str]) -> set[str]:
    """Those of the folders that nobody may delete: their job or model exists. Checkpoints are not owned once
    their job has ended. At most BATCH_SIZE of them, in at most two statements."""
    parts = [prefix.split("/") for prefix in prefixes]
    job_ids = {part[1] for part in parts if part[0] == "jobs"}
    model_ids = {part[1] for part in parts if part[0] == "models"}
    jobs: dict[str, str] = {}
    if job_ids:
        rows = session.execute(select(Job.id, Job.status).where(Job.id.in_(job_ids)))
        jobs = {job_id: status for job_id, status in rows}
    models = set(session.scalars(select(Model.id).where(Model.id.in_(model_ids)))) if model_ids else set()
    found = set()
    for prefix, part in zip(prefixes, parts, strict=True):
        if part[0] == "models":
            is_owned = part[1] in models
        elif part[0] == "jobs" and len(part) > 2:  # without its job, the job's folder is the orphan
            is_owned = jobs.get(part[1]) not in FINAL
        else:
            is_owned = part[0] == "jobs" and part[1] in jobs
        if is_owned:
            found.add(prefix)
    return found


def ended_jobs(session: Session, *, ended_for: timedelta) -> list[tuple[str, datetime]]:
    """The id and the end of jobs whose leftover checkpoints nobody has looked for yet, the oldest first:
    at most BATCH_SIZE."""
    jobs = select(Job.id, Job.finished_at).where(
        Job.finished_at <= database_now(session) - ended_for, Job.started_at.is_not(None)
    )
    until = installation.find(session).checkpoints_until
    if until is not None:
        jobs = jobs.where(Job.finished_at > until)
    rows = session.execute(jobs.order_by(Job.finished_at).limit(BATCH_SIZE))
    return [(job_id, at) for job_id, at in rows if at is not None]


def mark_checkpoints(session: Session, job_id: str, ended: datetime) -> None:
    """Nobody has needed them since the job ended."""
    prefix = checkpoints.folder_of(job_id)
    if session.get(Orphan, prefix) is None:
        session.add(Orphan(prefix=prefix, first_seen=ended))


def all_marks(session: Session) -> list[Orphan]:
    return list(session.scalars(select(Orphan).order_by(Orphan.first_seen, Orphan.prefix)))


def count_folders(session: Session) -> int:
    """Marked folders of jobs and models that wait for their deletion."""
    folder = or_(Orphan.prefix.like("jobs/%"), Orphan.prefix.like("models/%"))
    waits = (Orphan.deleted_at.is_(None), folder, Orphan.prefix.not_like("%/%/%"))
    return session.scalar(select(func.count()).select_from(Orphan).where(*waits)) or 0


def mark(session: Session, prefixes: Sequence[str]) -> None:
    """Those that are marked already keep their mark. At most BATCH_SIZE."""
    installation.find(session, lock=True)  # another process may mark the same
    known = set(session.scalars(select(Orphan.prefix).where(Orphan.prefix.in_(prefixes))))
    at = database_now(session)
    session.add_all(Orphan(prefix=prefix, first_seen=at) for prefix in prefixes if prefix not in known)


def unmark(session: Session, prefixes: Collection[str]) -> None:
    """At most BATCH_SIZE."""
    session.execute(delete(Orphan).where(Orphan.prefix.in_(prefixes)))


def rearm(session: Session, prefixes: Collection[str]) -> None:
    """Their deletion was cut off: they are due as before. At most BATCH_SIZE."""
    session.execute(update(Orphan).where(Orphan.prefix.in_(prefixes)).values(deleted_at=None))


def deleted_lately(session: Session) -> int:
    """Folders deleted by any process within the last hour."""
    since = database_now(session) - CAP_PERIOD
    return session.scalar(select(func.count()).select_from(Orphan).where(Orphan.deleted_at > since)) or 0


def claim(session: Session, prefix: str, *, grace: timedelta, most: int | None) -> bool | None:
    """Look up the owner again and claim the deletion of the folder for this process.

    Args:
        grace: the least time since it was first seen.
        most: folders that all processes together may delete per hour; None is no limit.

    Returns:
        True if it is to be deleted now. False if it is owned again, too young, or another process's.
        None if the limit is reached.
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
