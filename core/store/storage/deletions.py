"""Deletion of blobs by record: a row of `deletions` names each folder or file to delete.

The row is written before the first blob is stored. The transaction that creates the job or the model removes
it. A transaction that deletes a job or a model writes a row for its blobs. The dispatcher deletes what is
due. A blob is never deleted because a row is missing.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.errors import ExpectedError
from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion
from core.store.errors import DatabaseFull, DatabaseUnavailable, StorageFull, StorageUnavailable
from core.store.storage import installation
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
GRACE = timedelta(days=1)
"""Time to store blobs and to commit the row that owns them."""
HOLD = timedelta(minutes=2)
"""Duration of a hold on deletions. A backup renews it. After a killed backup it expires."""


@contextmanager
def unless_kept(database: Database, blobs: Blobs, prefix: str) -> Iterator[None]:
    """Delete the blobs that are stored in this context, unless a transaction in it calls `keep` and commits.

    They are deleted at the end of the context. If that fails or the process is killed, the dispatcher deletes
    them after GRACE.

    Args:
        prefix: a folder, or the key of a file with a dot in its name. It must never have been used.

    Raises:
        DatabaseUnavailable: the deletion can't be recorded, so nothing may be stored.
    """
    with database.write() as session:
        announce(session, prefix)
    try:
        yield
    except (StorageFull, DatabaseFull):  # nothing was committed, and space is needed now
        with suppress(StorageUnavailable):
            _delete(blobs, prefix)
        raise
    finally:
        _discard(database, blobs, prefix)


def announce(session: Session, prefix: str) -> None:
    """Record the deletion of blobs that are about to be stored. It is due after GRACE."""
    session.add(Deletion(prefix=prefix, due_at=database_now(session) + GRACE))
    session.flush()


def keep(session: Session, prefix: str) -> None:
    """Remove the deletion. Call this in the transaction that creates the blobs' job or model.

    Raises:
        StorageUnavailable: the deletion is due or was never recorded, so the blobs may be gone.
    """
    pending = (Deletion.prefix == prefix, Deletion.due_at > database_now(session))
    if session.scalar(delete(Deletion).where(*pending).returning(Deletion.prefix)) is None:
        raise StorageUnavailable(
            f"The files {prefix} were not recorded within {GRACE.days} day, so they may be deleted. Send the "
            "request again."
        )


def mark_for_deletion(session: Session, prefix: str) -> None:
    """Record a deletion that is due at once. Call this in the transaction that deletes the job or model.

    Args:
        prefix: as for `unless_kept`.
    """
    session.merge(Deletion(prefix=prefix, due_at=None))
    session.flush()


def finish(database: Database, blobs: Blobs, prefix: str) -> bool:
    """Delete the blobs of a due deletion, then its row. Call this after the commit.

    Return False, without deleting, if a backup is in progress or the database is unavailable. The dispatcher
    tries again.

    Raises:
        StorageUnavailable: the blobs can't be deleted now. The dispatcher tries again.
    """
    try:
        with database.read() as session:  # a backup in progress holds all deletions
            until = installation.find(session).hold_until
            if until is not None and database_now(session) < until:
                return False
    except DatabaseUnavailable:
        return False
    try:
        _delete(blobs, prefix)
    except StorageUnavailable as error:
        deleted = "It is deleted, but its files are not yet. They will be deleted once the storage works. "
        public = error.public_detail
        raise StorageUnavailable(f"{deleted}{error}", public and f"{deleted}{public}") from error
    with suppress(DatabaseUnavailable), database.write() as session:  # a remaining row is harmless
        session.execute(delete(Deletion).where(Deletion.prefix == prefix))
    return True


def take_due(session: Session, *, trusts_clock: bool = True) -> list[str]:
    """Return the prefixes to delete now. From now on `keep` fails for them, even if the clock is set back.

    Args:
        trusts_clock: False ignores the clock and returns only deletions that were already due.
    """
    if trusts_clock:
        now = database_now(session)
        session.execute(update(Deletion).where(Deletion.due_at <= now).values(due_at=None))
    return list(session.scalars(select(Deletion.prefix).where(Deletion.due_at.is_(None))))


def hold(session: Session) -> None:
    """Stop all deletions of blobs for HOLD, for a backup."""
    installation.find(session, lock=True).hold_until = database_now(session) + HOLD


def _discard(database: Database, blobs: Blobs, prefix: str) -> None:
    """Delete the blobs now, unless they were kept. The row decides, even if a commit's result is unknown."""
    try:
        with database.read() as session:
            if session.get(Deletion, prefix) is None:
                return
        with database.write() as session:
            mine = update(Deletion).where(Deletion.prefix == prefix).values(due_at=None)
            claimed = session.scalar(mine.returning(Deletion.prefix))
        if claimed is not None:
            finish(database, blobs, prefix)
    except ExpectedError as error:  # the exception in flight matters more
        logger.warning("%s: the dispatcher will delete these files: %s", prefix, error)


def _delete(blobs: Blobs, prefix: str) -> None:
    folder, _, name = prefix.rpartition("/")
    if "." in name:
        # Includes temporary files of this name.
        blobs.delete_prefix(folder, only=re.compile(re.escape(name) + r"(\..*)?"))
    else:
        blobs.delete_prefix(prefix)
