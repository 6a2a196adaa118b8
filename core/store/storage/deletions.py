"""Reliable deletion of blobs.

The transaction that deletes a row inserts a deletion for its blobs, which is removed once they are deleted.
After a crash or a failure of the storage the dispatcher finishes the deletion.
"""

import re
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion
from core.store.errors import DatabaseUnavailable, StorageUnavailable
from core.store.storage import installation
from core.store.storage.blobs import Blobs

IMAGES = "/images"
"""End of a prefix that stands for the images in a job's folder. Their names are numbers."""


def mark_for_deletion(session: Session, prefix: str) -> None:
    """Insert the deletion of a folder of blobs, or of the IMAGES in it, into this transaction."""
    session.add(Deletion(prefix=prefix, created_at=database_now(session)))
    session.flush()


def finish(database: Database, blobs: Blobs, prefix: str) -> bool:
    """Delete the blobs, then the deletion's row. Call this after the commit.

    Return False if nothing is deleted, because of a backup or because the database can't be asked for one.
    The dispatcher tries again.

    Raises:
        StorageUnavailable: the blobs can't be deleted now. The dispatcher tries again.
    """
    try:
        if installation.is_held(database):
            return False
    except DatabaseUnavailable:
        return False
    try:
        if prefix.endswith(IMAGES):
            blobs.check_folder()  # else all would seem to be deleted, and no sweep would find them later
            blobs.delete_prefix(prefix.removesuffix(IMAGES), only=re.compile(r"\d+"))
        else:
            blobs.delete_prefix(prefix)
    except StorageUnavailable as error:
        deleted = "It is deleted, but its files are not yet. They will be deleted once the storage works. "
        public = error.public_detail
        raise StorageUnavailable(f"{deleted}{error}", public and f"{deleted}{public}") from error
    with suppress(DatabaseUnavailable), database.write() as session:  # a leftover row is harmless
        session.execute(delete(Deletion).where(Deletion.prefix == prefix))
    return True


def left_over(session: Session, *, age: timedelta) -> list[str]:
    """Return the folders whose deletion has been pending for longer than `age`."""
    old = database_now(session) - age
    return list(
        session.scalars(
            select(Deletion.prefix).where(Deletion.created_at < old).order_by(Deletion.created_at)
        )
    )
