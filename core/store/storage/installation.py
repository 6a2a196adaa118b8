"""Id of the installation, in the database and in the storage, so that no database uses another's files."""

import json

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.db.session import Database
from core.store.db.tables import Installation, JobImage, Model
from core.store.errors import BlobNotFound, StorageUnavailable
from core.store.storage.blobs import ABSENT, Blobs

KEY = "installation.json"


def find(session: Session, *, lock: bool = False) -> Installation:
    """Return the single row, with `lock` locked until the transaction ends."""
    query = select(Installation)
    return session.scalars(query.with_for_update() if lock else query).one()


def check(database: Database, blobs: Blobs, *, bind: bool = False) -> None:
    """Check that the storage belongs to the database.

    A storage without an id does if it has a file that the database names, or if neither has any.

    Args:
        bind: write the id to such a storage.

    Raises:
        DatabaseUnavailable: the check failed.
        StorageUnavailable: the check failed, or the storage is another one.
    """
    try:
        stored = blobs.get(KEY)
    except BlobNotFound:
        blobs.check_folder()
        stored = None
    with database.read() as session:  # before the listing, because files are stored before their row
        own_id = find(session).id
        newest = session.scalar(select(Model.manifest_key).order_by(Model.created_at.desc()).limit(1))
        named = newest or session.scalar(select(JobImage.blob_key).limit(1))
    content = json.dumps({"id": own_id})
    if stored is None and (
        blobs.exists(named) if named else not (blobs.folders("jobs") or blobs.folders("models"))
    ):
        if bind:
            blobs.put(KEY, content.encode())
    elif _id_in(stored) != own_id:
        raise StorageUnavailable(
            f"The storage is not that of this database: its {KEY} has {_id_in(stored) or 'no id'} instead of "
            f"{own_id}. Nothing is stored in it. If the storage is a mount, mount it. If a restore was "
            "interrupted, repeat it. If CLIPCITE_BLOB_URL or CLIPCITE_DATABASE_URL is wrong, correct it and "
            f"restart. To use this storage all the same, write {content} into its {KEY}.",
            ABSENT,
        )


def _id_in(stored: bytes | None) -> str | None:
    try:
        return str(json.loads(stored or b"")["id"])[:80]
    except (ValueError, KeyError, TypeError):
        return None
