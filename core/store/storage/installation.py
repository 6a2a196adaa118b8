"""Id of the installation, in the database and in the storage.

Unowned files are deleted only if both ids are equal, because all files of another database look unowned.
"""

import json
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.store.db.session import Database, database_now
from core.store.db.tables import Installation, Job, Model, Orphan
from core.store.errors import BlobNotFound, StorageUnavailable
from core.store.storage.blobs import ABSENT, Blobs

KEY = "installation.json"
HOLD = timedelta(minutes=2)
"""Duration of a hold on deletions. A backup renews it, and a killed backup leaves it to expire."""
REMEDY = (
    "If the storage's own database still exists, set CLIPCITE_DATABASE_URL to it or restore its backup. If "
    "another installation uses this storage, set CLIPCITE_BLOB_URL to a separate one. To assign the storage "
    "to this database, run `clipcite storage adopt`."
)


def find(session: Session, *, lock: bool = False) -> Installation:
    """Return the single row, with `lock` locked until the transaction ends."""
    query = select(Installation)
    return session.scalars(query.with_for_update() if lock else query).one()


def stored_id(blobs: Blobs) -> str | None:
    """Return the id in the storage: None if there is none, an empty text if it is unreadable.

    Raises:
        StorageUnavailable: the storage can't be read.
    """
    try:
        stored = json.loads(blobs.get(KEY))
    except BlobNotFound:
        blobs.check_folder()
        return None
    except ValueError:
        return ""
    return str(stored.get("id", "")) if isinstance(stored, dict) else ""


def check_present(database: Database, blobs: Blobs) -> None:
    """Check that the storage is not an empty one in the place of the database's own, with a short read.

    Raises:
        DatabaseUnavailable: the check failed.
        StorageUnavailable: the check failed, or the storage is another, empty one.
    """
    if stored_id(blobs) is not None:
        return
    with database.read() as session:  # before the listing, because files are stored before their row
        owns_files = any(session.scalar(select(table.id).limit(1)) for table in (Job, Model))
    if owns_files and not blobs.folders("jobs") and not blobs.folders("models"):
        raise StorageUnavailable(
            f"The storage is empty and has no {KEY}, but this database has jobs or models. Nothing is stored "
            "in it. If their storage is a mount, mount it. If CLIPCITE_BLOB_URL is wrong, correct it and "
            "restart. If their files are lost, run `clipcite storage adopt` to use this storage.",
            ABSENT,
        )


def problem(database: Database, blobs: Blobs) -> str | None:
    """Return why the storage does not belong to the database, with the remedy.

    The result is None if it does, or if that is unknown. The cost is two short reads.

    Raises:
        DatabaseUnavailable: the check failed.
        StorageUnavailable: the check failed, or the storage is another, empty one.
    """
    stored = stored_id(blobs)
    if stored is None:
        check_present(database, blobs)
    with database.read() as session:
        row = find(session)
    if stored == row.id:
        return None
    if stored is not None:
        return (
            f"The storage belongs to another database: its {KEY} has {stored or 'no id'}, and this database "
            f"has {row.id}. Unowned files in it are not deleted. {REMEDY}"
        )
    if row.refused_at is not None:
        return (
            f"The storage seems to belong to another database: it has no {KEY}, and this database owns less "
            f"than 90% of its folders. Unowned files in it are not deleted. {REMEDY}"
        )
    return None


def hold_deletions(session: Session) -> None:
    """Stop all deletions of blobs for HOLD, for a backup."""
    find(session, lock=True).hold_until = database_now(session) + HOLD


def is_held(database: Database) -> bool:
    """Return whether a backup is in progress, so that no blob may be deleted."""
    with database.read() as session:
        until = find(session).hold_until
        return until is not None and database_now(session) < until


def write(database: Database, blobs: Blobs) -> None:
    """Write this database's id to the storage."""
    with database.read() as session:
        row = find(session)
    blobs.put(KEY, json.dumps({"id": row.id}).encode())
    if row.refused_at is not None:
        with database.write() as session:
            find(session, lock=True).refused_at = None


def write_if_empty(database: Database, blobs: Blobs) -> None:
    """Write the id to a new storage. Call this at process start, before the first files are stored.

    Raises:
        DatabaseUnavailable, StorageUnavailable: as `check_present`.
    """
    check_present(database, blobs)
    if stored_id(blobs) is None and blobs.is_empty():
        write(database, blobs)


def refuse(database: Database) -> None:
    """Record that a storage without an id contains mostly files of another database."""
    with database.write() as session:
        find(session, lock=True).refused_at = database_now(session)


def adopt(database: Database, blobs: Blobs) -> None:
    """Assign the storage to this database, as decided by a person. Every folder's grace period restarts."""
    with database.write() as session:
        session.execute(delete(Orphan))
    write(database, blobs)
