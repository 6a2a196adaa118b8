"""Verification of a backup, and of an installation: each row has its blobs, with the right content."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import select

from core.store.backup import snapshots
from core.store.backup.snapshots import BLOBS, TABLES, Backup, BackupError
from core.store.db.session import Database
from core.store.db.tables import Deletion, Job, JobImage, Model
from core.store.errors import BlobDamaged, BlobNotFound, StorageUnavailable
from core.store.storage import installation
from core.store.storage.blobs import Blobs


@dataclass
class Verification:
    """Outcome of a verification."""

    rows: int = 0
    blobs: int = 0
    """Blobs that were read and compared with their hash."""
    problems: list[str] = field(default_factory=list)
    unowned: list[str] = field(default_factory=list)
    """Folders without a row of a job, a model or a deletion. They stay."""


def verify_backup(backup: Backup, name: str | None = None) -> Verification:
    """Read a snapshot, by default the newest one, and compare everything in it with its hashes.

    Raises:
        BackupError: there is no such snapshot.
    """
    name, manifest = snapshots.read_manifest(backup, name)
    result = Verification(
        problems=[f"{key}: was missing at the time of the backup" for key in manifest.missing]
    )
    for table in TABLES:
        if table.name not in manifest.rows:  # newer than the snapshot
            continue
        with _problems(result, f"{table.name}.jsonl"):
            count = sum(1 for _ in snapshots.read_lines(backup, name, f"{table.name}.jsonl", manifest))
            result.rows += count
            if count != manifest.rows[table.name]:
                result.problems.append(f"{table.name}: {count} of {manifest.rows[table.name]} rows")
    entries = []
    with _problems(result, f"{BLOBS}.jsonl"):
        entries = snapshots.read_blobs(backup, name, manifest)
    for entry in entries:
        with _problems(result, entry.key):
            backup.verify(f"{BLOBS}/{entry.key}", bytes=entry.bytes, sha256=entry.sha256)
            result.blobs += 1
    return result


def verify_installation(database: Database, blobs: Blobs) -> Verification:
    """Read all images and models of an installation, and compare them with the hashes in their rows."""
    result = Verification()
    try:
        installation.check(database, blobs)
    except StorageUnavailable as error:
        result.problems.append(error.detail)
    stored = {*blobs.folders("jobs"), *blobs.folders("models")}
    with database.read() as session:
        images = session.execute(select(JobImage.blob_key, JobImage.bytes, JobImage.sha256)).all()
        models = session.execute(
            select(Model.id, Model.weights_key, Model.bytes, Model.sha256, Model.manifest_key)
        ).all()
        owned = {f"jobs/{job_id}" for job_id in session.scalars(select(Job.id))}
        owned |= set(session.scalars(select(Deletion.prefix)))
    result.rows = len(images) + len(models)
    for key, size, sha256 in [*images, *((model[1], model[2], model[3]) for model in models)]:
        with _problems(result, key):
            blobs.verify(key, bytes=size, sha256=sha256)
            result.blobs += 1
    for model in models:
        with _problems(result, model.manifest_key):
            blobs.get(model.manifest_key)
    result.unowned = sorted(stored - owned - {f"models/{model.id}" for model in models})
    return result


@contextmanager
def _problems(result: Verification, key: str) -> Iterator[None]:
    """Record a missing or changed blob."""
    try:
        yield
    except BlobNotFound:
        result.problems.append(f"{key}: missing")
    except BlobDamaged:
        result.problems.append(f"{key}: its content has changed")
    except BackupError as error:
        result.problems.append(error.detail)
