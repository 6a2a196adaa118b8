"""Id of the installation in database and storage, so that a database never uses another one's files."""

import json

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.db.session import Database
from core.store.db.tables import Installation, JobImage, Model, PileFeatures
from core.store.errors import BlobNotFound, StorageUnavailable
from core.store.storage.blobs import ABSENT, Blobs

KEY = "installation.json"


def find(session: Session, *, lock: bool = False) -> Installation:
    """Return the single row. With `lock` it stays locked until the transaction ends."""
    query = select(Installation)
    return session.scalars(query.with_for_update() if lock else query).one()


def check(database: Database, blobs: Blobs, *, bind: bool = False) -> None:
    """Check that the storage belongs to the database.

    A storage without an id belongs to it if it has a file that the database names, or if both have no files.

    Args:
        bind: if the storage has no id but belongs to the database, write the id to it.

    Raises:
        DatabaseUnavailable: the check failed.
        StorageUnavailable: the check failed, or the storage belongs to another database.
    """
    try:
        stored = blobs.get(KEY)
    except BlobNotFound:
        blobs.check_folder()
        stored = None
    with database.read() as session:  # before the listing, because a file is stored before its row
        own_id = find(session).id
        newest = session.scalar(select(Model.manifest_key).order_by(Model.created_at.desc()).limit(1))
        named = (
            newest
            or session.scalar(select(JobImage.blob_key).limit(1))
            or session.scalar(select(PileFeatures.blob_key).limit(1))
        )
    content = json.dumps({"id": own_id})
    if stored is None and (
        blobs.exists(named) if named else not any(map(blobs.folders, ("jobs", "models", "piles")))
    ):
        if bind:
            blobs.put(KEY, content.encode())
    elif _id_in(stored) != own_id:
        raise StorageUnavailable(
            f"The storage belongs to another database: its {KEY} has {_id_in(stored) or 'no id'} instead of "
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
