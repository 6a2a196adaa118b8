"""The installation's id, in the database and in the storage.

Nothing is deleted as nobody's unless both are equal: every file of another database would look so.
"""

import json

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.store.db.session import Database, database_now
from core.store.db.tables import Installation, Orphan
from core.store.errors import BlobNotFound
from core.store.storage.blobs import Blobs

KEY = "installation.json"
REMEDY = (
    "If its own database still exists, set CLIPCITE_DATABASE_URL to it or restore its backup. If another "
    "installation uses this storage, set CLIPCITE_BLOB_URL to a place of your own. To make the storage "
    "this database's: `clipcite storage adopt`."
)


def find(session: Session, *, lock: bool = False) -> Installation:
    """The one row; with `lock` until the transaction ends."""
    found = select(Installation)
    return session.scalars(found.with_for_update() if lock else found).one()


def stored_id(blobs: Blobs) -> str | None:
    """The id in the storage; None without one, an empty text if it can't be read.

    Raises StorageUnavailable.
    """
    try:
        stored = json.loads(blobs.get(KEY))
    except BlobNotFound:
        blobs.check_folder()
        return None
    except ValueError:
        return ""
    return str(stored.get("id", "")) if isinstance(stored, dict) else ""


def problem(database: Database, blobs: Blobs) -> str | None:
    """Why database and storage don't belong together, and what to do; None if they do or if nobody knows.

    Two short reads. Raises DatabaseUnavailable, StorageUnavailable.
    """
    stored = stored_id(blobs)
    with database.read() as session:
        row = find(session)
    if stored == row.id:
        return None
    if stored is not None:
        return (
            f"The storage belongs to another database: its {KEY} names {stored or 'no id'}, this database is "
            f"{row.id}. Nothing in it is deleted as nobody's. {REMEDY}"
        )
    if row.refused_at is not None:
        return (
            f"The storage seems to belong to another database: it has no {KEY}, and this database knows less "
            f"than 90% of its folders. Nothing in it is deleted as nobody's. {REMEDY}"
        )
    return None


def write(database: Database, blobs: Blobs) -> None:
    """Make the storage this database's."""
    with database.read() as session:
        row = find(session)
    blobs.put(KEY, json.dumps({"id": row.id}).encode())
    if row.refused_at is not None:
        with database.write() as session:
            find(session, lock=True).refused_at = None


def write_if_empty(database: Database, blobs: Blobs) -> None:
    """At the start of a process, so that a new storage has an id before its first files."""
    if stored_id(blobs) is None and blobs.is_empty():
        write(database, blobs)


def refuse(database: Database) -> None:
    """Remember that a storage without an id holds mostly files of others."""
    with database.write() as session:
        find(session, lock=True).refused_at = database_now(session)


def adopt(database: Database, blobs: Blobs) -> None:
    """Make the storage this database's, by a person's decision. Every folder gets its whole grace again."""
    with database.write() as session:
        session.execute(delete(Orphan))
    write(database, blobs)
