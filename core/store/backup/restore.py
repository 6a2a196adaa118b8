"""Restoration of a snapshot into an empty installation, on either kind of database and storage."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from core.scratch import scratch_folder
from core.store.backup import create, snapshots
from core.store.backup.create import BATCH_SIZE
from core.store.backup.snapshots import BLOBS, TABLES, Backup, BackupError, Manifest
from core.store.db import migrate
from core.store.db.ids import new_id
from core.store.db.session import Database, database_now
from core.store.db.tables import QUEUED, RUNNING, ApiKey, Deletion, Job, Model
from core.store.jobs.endings import end_lease
from core.store.storage import installation
from core.store.storage.atomic_write import PART
from core.store.storage.blobs import PROBE, Blobs


@dataclass
class Restored:
    """Outcome of a restoration."""

    snapshot: str
    rows: int
    blobs: int
    requeued: list[str] = field(default_factory=list)
    """Jobs that ran at the time of the snapshot. They are queued again and lose no attempt."""
    keys: list[str] = field(default_factory=list)
    """Prefixes of API keys that are valid again. Some may have been revoked after the snapshot."""


def restore(
    url: str,
    blobs: Blobs,
    backup: Backup,
    *,
    name: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Restored:
    """Restore a snapshot, with a new id: the original may still exist. An interrupted call can be repeated.

    Args:
        url: SQLAlchemy URL of a database without jobs, models and keys. Missing tables are created.
        blobs: storage that is empty, or has only blobs of this snapshot.
        name: name of the snapshot; None is the newest one.

    Raises:
        BackupError: the installation is not empty, or the snapshot does not fit this version.
        BlobNotFound, BlobDamaged: the backup is damaged. The database is still empty.
    """
    name, manifest = snapshots.read_manifest(backup, name)
    migrate.upgrade(url)
    database = Database(url)
    try:
        _check_empty(database)
        entries = snapshots.read_blobs(backup, name, manifest)
        own = {installation.KEY, PROBE, *(entry.key for entry in entries)}
        foreign = {blob.key for blob in blobs.list("")} - own
        for key in [key for key in foreign if PART.sub("", key) in own]:  # of a killed restoration
            blobs.delete(key)
            foreign.discard(key)
        if foreign:
            raise BackupError(
                f"The storage has {len(foreign):,} other files, for example {min(foreign)}. Restore into an "
                "empty folder or bucket."
            )
        with create.hold(database), scratch_folder(backup.scratch) as folder:
            path = folder / "blob"
            for number, entry in enumerate(entries, start=1):
                backup.fetch(f"{BLOBS}/{entry.key}", path, sha256=entry.sha256)
                blobs.put(entry.key, path)
                if number % BATCH_SIZE == 0:
                    report(f"{number:,} of {len(entries):,} files")
        blobs.delete(installation.KEY)  # the service binds the storage at its start
        with database.write() as session:
            if session.get_bind().dialect.name == "postgresql":  # idle while the file of a table is copied
                session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            rows = _insert_rows(session, backup, name, manifest)
            with _damage(name, "A table"):
                # What was true of the old processes and the old storage is forgotten.
                row = installation.find(session, lock=True)
                row.hold_until = row.clock_at = None
                row.id = new_id("ins")
                session.execute(update(Job).where(Job.status == QUEUED).values(dispatched_at=None))
                return Restored(name, rows, len(entries), _requeue(session), _valid_keys(session))
    finally:
        database.close()


@contextmanager
def _damage(name: str, file: str) -> Iterator[None]:
    """Convert the errors of rows that no backup writes."""
    try:
        yield
    except (OperationalError, InterfaceError):  # of the database itself
        raise
    except (ValueError, TypeError, KeyError, AttributeError, SQLAlchemyError) as error:
        raise snapshots.damaged(name, file) from error


def _check_empty(database: Database) -> None:
    with database.read() as session:
        for table in (Job, Model, ApiKey):
            if session.scalar(select(func.count()).select_from(table)):
                raise BackupError(
                    f"The database already has {table.__tablename__.replace('_', ' ')}. Restore into an "
                    "empty one: set CLIPCITE_DATA or CLIPCITE_DATABASE_URL to a new place."
                )


def _insert_rows(session: Session, backup: Backup, name: str, manifest: Manifest) -> int:
    """Replace the rows of all tables by those of the snapshot. Return their number."""
    for table in (Deletion.__table__, *reversed(TABLES)):
        session.execute(delete(table))
    for table in TABLES:
        if table.name not in manifest.rows:  # newer than the snapshot
            continue
        file = f"{table.name}.jsonl"
        lines = snapshots.read_lines(backup, name, file, manifest)
        with _damage(name, file):
            while batch := [snapshots.decode_row(table, row, manifest) for row in islice(lines, BATCH_SIZE)]:
                session.execute(insert(table), batch)
    return sum(manifest.rows.values())


def _requeue(session: Session) -> list[str]:
    """End the leases of the workers that had running jobs. Return the ids of these jobs."""
    jobs = list(session.scalars(select(Job).where(Job.status == RUNNING)))
    for job in jobs:
        end_lease(
            session,
            job,
            at=database_now(session),
            attempts=max(0, job.attempts - 1),
            exhausted=False,
            code="restored",
            detail="The installation was restored from a backup while this job ran.",
        )
    return [job.id for job in jobs]


def _valid_keys(session: Session) -> list[str]:
    at = database_now(session)
    keys = session.scalars(select(ApiKey).where(ApiKey.revoked_at.is_(None)).order_by(ApiKey.created_at))
    return [key.prefix for key in keys if key.expires_at is None or key.expires_at > at]
