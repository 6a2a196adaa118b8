"""Deletion of blobs by record: a row of `deletions` names each folder or file that will go.

The row is written before the first blob is stored, and removed by the transaction that creates the job or the
model. A transaction that deletes a job or a model writes such a row for its blobs. The dispatcher deletes
what is due. No blob is deleted because a row is missing.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.errors import ClipCiteError
from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion
from core.store.errors import DatabaseFull, DatabaseUnavailable, StorageFull, StorageUnavailable
from core.store.storage import installation
from core.store.storage.blobs import Blobs

logger = logging.getLogger(__name__)
GRACE = timedelta(days=1)
"""Time to store blobs and to commit the row that owns them."""
HOLD = timedelta(minutes=2)
"""Duration of a hold on deletions. A backup renews it, and a killed backup leaves it to expire."""


@contextmanager
def unless_kept(database: Database, blobs: Blobs, prefix: str) -> Iterator[None]:
    """Record the deletion of blobs that are stored in this context.

    They stay if a transaction in the context calls `keep` and commits. Otherwise they are deleted at the end
    or, if that fails or the process is killed, by the dispatcher after GRACE.

    Args:
        prefix: a folder, or the key of a file with a dot in its name. It was never used before.

    Raises:
        DatabaseUnavailable: nothing may be stored.
    """
    with database.write() as session:
        announce(session, prefix)
    try:
        yield
    except (StorageFull, DatabaseFull):  # nothing is committed, and the rest needs room on the disk
        with suppress(StorageUnavailable):
            _delete(blobs, prefix)
        raise
    finally:
        _discard(database, blobs, prefix)


def announce(session: Session, prefix: str) -> None:
    """Insert the deletion of blobs that are about to be stored, due after GRACE."""
    session.add(Deletion(prefix=prefix, due_at=database_now(session) + GRACE))
    session.flush()


def keep(session: Session, prefix: str) -> None:
    """Remove the deletion, in the transaction that creates the owner of the blobs.

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
    """Insert a deletion that is due at once, in the transaction that deletes the owner of the blobs.

    Args:
        prefix: as for `unless_kept`.
    """
    session.merge(Deletion(prefix=prefix, due_at=None))
    session.flush()


def finish(database: Database, blobs: Blobs, prefix: str) -> bool:
    """Delete the blobs of a deletion that is due, then its row. Call this after the commit.

    Return False if nothing is deleted, because of a backup or because the database can't be asked for one.
    The dispatcher tries again.

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
    with suppress(DatabaseUnavailable), database.write() as session:  # a leftover row is harmless
        session.execute(delete(Deletion).where(Deletion.prefix == prefix))
    return True


def take_due(session: Session, *, trusts_clock: bool = True) -> list[str]:
    """Return the prefixes to delete now, and bar every later `keep` of them, whatever the clock will show.

    Args:
        trusts_clock: False leaves out those whose time came.
    """
    if trusts_clock:
        now = database_now(session)
        session.execute(update(Deletion).where(Deletion.due_at <= now).values(due_at=None))
    return list(session.scalars(select(Deletion.prefix).where(Deletion.due_at.is_(None))))


def hold(session: Session) -> None:
    """Stop all deletions of blobs for HOLD, for a backup."""
    installation.find(session, lock=True).hold_until = database_now(session) + HOLD


def _discard(database: Database, blobs: Blobs, prefix: str) -> None:
    """Delete the blobs now, unless they were kept. The row decides, also after a commit without an answer."""
    try:
        with database.read() as session:
            if session.get(Deletion, prefix) is None:
                return
        with database.write() as session:
            mine = update(Deletion).where(Deletion.prefix == prefix).values(due_at=None)
            claimed = session.scalar(mine.returning(Deletion.prefix))
        if claimed is not None:
            finish(database, blobs, prefix)
    except ClipCiteError as error:  # the exception in flight matters more
        logger.warning("%s: the dispatcher will delete these files: %s", prefix, error)


def _delete(blobs: Blobs, prefix: str) -> None:
    folder, _, name = prefix.rpartition("/")
    if "." in name:
        blobs.delete_prefix(folder, only=re.compile(re.escape(name) + r"(\..*)?"))  # also a half-written one
    else:
        blobs.delete_prefix(prefix)
