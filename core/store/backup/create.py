"""Creation of a snapshot while the service works."""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, select

from core.scratch import scratch_folder
from core.store.backup import snapshots
from core.store.backup.snapshots import BLOBS, SNAPSHOTS, TABLES, Backup, BlobEntry, Manifest
from core.store.db.engine import make_engine
from core.store.db.session import Database
from core.store.db.tables import Deletion, Installation, Job, JobImage, Model
from core.store.errors import BlobNotFound, DatabaseUnavailable
from core.store.storage import deletions
from core.store.storage.blobs import Blobs, Stored

logger = logging.getLogger("core.store.backup")
HOLD_RENEWAL_SECONDS = 30.0
BATCH_SIZE = 1_000
Report = Callable[[str], None]


def create(
    url: str, database: Database, blobs: Blobs, backup: Backup, *, report: Report = lambda line: None
) -> tuple[str, Manifest]:
    """Add a snapshot to a backup. Blobs that the backup has are not copied again.

    The rows come from one transaction. No blob that they name is deleted until all are copied.

    Args:
        url: SQLAlchemy URL of the database.
        backup: folder of the backup.
        report: receives a line on the progress.

    Returns:
        Name and manifest of the snapshot. `missing` in it lists the keys without a blob.

    Raises:
        DatabaseUnavailable, StorageUnavailable: the snapshot is incomplete and is ignored.
    """
    names, known = snapshots.names(backup), dict[str, BlobEntry]()
    for folder in {*backup.folders(SNAPSHOTS)} - {f"{SNAPSHOTS}/{complete}" for complete in names}:
        backup.delete_prefix(folder)
    if names:
        newest, before = snapshots.read_manifest(backup, None)
        known = {entry.key: entry for entry in snapshots.read_blobs(backup, newest, before)}
    # After all others, also if the clock was ahead when one of them was made.
    times = (snapshots.time_of(earlier) + timedelta(seconds=1) for earlier in names)
    name = max(datetime.now(UTC), *times, datetime.now(UTC)).strftime(snapshots.TIME)
    with hold(database):
        with _snapshot(url) as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            row = connection.execute(select(Installation.__table__)).one()
            files, rows = {}, {}
            for table in TABLES:
                file = f"{table.name}.jsonl"
                files[file], rows[table.name] = snapshots.write_lines(
                    backup,
                    f"{SNAPSHOTS}/{name}/{file}",
                    (snapshots.encode_row(row._asdict()) for row in connection.execute(select(table))),
                )
            owned, required = _wanted(connection)
            # Files that are being stored or deleted, also in folders of living jobs.
            pending = set(connection.scalars(select(Deletion.prefix)))
        report(f"{sum(rows.values()):,} rows")
        listed = [
            blob
            for blob in (*blobs.list("jobs"), *blobs.list("models"))
            if "/".join(blob.key.split("/")[:2]) in owned and not pending & _above(blob.key)
        ]
        entries = list(_copies(blobs, backup, listed, known, report))
    keys = {entry.key for entry in entries}
    file = f"{BLOBS}.jsonl"
    files[file], _ = snapshots.write_lines(
        backup, f"{SNAPSHOTS}/{name}/{file}", (vars(entry) for entry in entries)
    )
    manifest = Manifest(
        format=snapshots.FORMAT,
        version=version("clipcite"),
        revision=str(revision),
        installation=row.id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
        rows=rows,
        blobs=len(entries),
        blob_bytes=sum(entry.bytes for entry in entries),
        missing=sorted(required - keys),
    )
    snapshots.write_manifest(backup, name, manifest)
    return name, manifest


def prune(backup: Backup, keep: int) -> list[str]:
    """Delete all but the newest `keep` snapshots, and the blobs of no other. Return their names."""
    known = snapshots.names(backup)
    gone, kept = known[:-keep], known[-keep:]
    if not gone:
        return []
    for name in gone:
        backup.delete(f"{SNAPSHOTS}/{name}/{snapshots.MANIFEST}")  # first, so that no half counts as whole
        backup.delete_prefix(f"{SNAPSHOTS}/{name}")
    needed = {
        entry.key
        for name in kept
        for entry in snapshots.read_blobs(backup, name, snapshots.read_manifest(backup, name)[1])
    }
    for stored in backup.list(BLOBS):
        if stored.key.removeprefix(f"{BLOBS}/") not in needed:
            backup.delete(stored.key)
    return gone


@contextmanager
def hold(database: Database) -> Iterator[None]:
    """Stop all deletions of blobs. The hold ends by itself soon after this process."""
    ended = threading.Event()
    with database.write() as session:
        deletions.hold(session)

    def renew() -> None:
        while not ended.wait(HOLD_RENEWAL_SECONDS):
            with suppress(DatabaseUnavailable), database.write() as session:
                deletions.hold(session)

    thread = threading.Thread(target=renew, name="hold", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _snapshot(url: str) -> Iterator[Connection]:
    """Yield a connection that sees the database at one point in time, without a time limit."""
    engine = make_engine(url, migrating=True)
    options: dict[str, Any] = {"sqlite_begin": "BEGIN", "yield_per": BATCH_SIZE}
    if engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    try:
        with engine.connect().execution_options(**options) as connection:
            yield connection
    finally:
        engine.dispose()


def _wanted(connection: Connection) -> tuple[set[str], set[str]]:
    """Return the folders that the rows own, and the keys that they name."""
    owned = {f"jobs/{job_id}" for job_id in connection.scalars(select(Job.id))}
    owned |= {f"models/{model_id}" for model_id in connection.scalars(select(Model.id))}
    required = set(connection.scalars(select(JobImage.blob_key)))
    for keys in connection.execute(select(Model.weights_key, Model.manifest_key)):
        required |= set(keys)
    owned |= {"/".join(key.split("/")[:2]) for key in required}
    return owned, required


def _above(key: str) -> set[str]:
    """Return the key, and the folders that it is in."""
    parts = key.split("/")
    return {"/".join(parts[:number]) for number in range(1, len(parts) + 1)}


def _copies(
    blobs: Blobs, backup: Backup, wanted: list[Stored], known: dict[str, BlobEntry], report: Report
) -> Iterator[BlobEntry]:
    """Copy the blobs that the backup lacks. Yield an entry for each, except for those that have vanished."""
    prefix = f"{BLOBS}/"
    present = {stored.key.removeprefix(prefix): stored.bytes for stored in backup.list(BLOBS)}
    with scratch_folder(backup.scratch) as folder:
        path = folder / "blob"
        for number, stored in enumerate(wanted, start=1):
            entry = known.get(stored.key)
            if entry is not None and entry.bytes == stored.bytes == present.get(stored.key):
                yield entry
                continue
            try:
                blobs.fetch(stored.key, path)
            except BlobNotFound:
                logger.info("%s: deleted meanwhile", stored.key)
                continue
            backup.put(prefix + stored.key, path)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield BlobEntry(stored.key, path.stat().st_size, digest)
            if number % BATCH_SIZE == 0:
                report(f"{number:,} of {len(wanted):,} files")
