"""Blobs that must go: noted in the transaction that removes their row, and struck out when they are
gone. What a crash or an absent storage leaves behind is removed by the dispatcher, not forgotten."""

from contextlib import suppress
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.store.db.session import Database, database_now
from core.store.db.tables import Deletion
from core.store.errors import DatabaseUnavailable, StorageUnavailable
from core.store.storage.blobs import Blobs


def mark_for_deletion(session: Session, prefix: str) -> None:
    session.add(Deletion(prefix=prefix, created_at=database_now(session)))
    session.flush()


def finish(database: Database, blobs: Blobs, prefix: str) -> None:
    """After the commit: the blobs first, then the note of them.

    Raises StorageUnavailable; the note stays then, and the dispatcher tries again.
    """
    try:
        blobs.delete_prefix(prefix)
    except StorageUnavailable as error:
        raise StorageUnavailable(
            f"It is deleted, but its files are still there: they go as soon as the storage lets them. {error}"
        ) from error
    with (
        suppress(DatabaseUnavailable),
        database.write() as session,
    ):  # they are gone; a note too many is harmless
        session.execute(delete(Deletion).where(Deletion.prefix == prefix))


def left_over(session: Session, *, age: timedelta) -> list[str]:
    """What should be gone for so long."""
    old = database_now(session) - age
    return list(
        session.scalars(
            select(Deletion.prefix).where(Deletion.created_at < old).order_by(Deletion.created_at)
        )
    )
