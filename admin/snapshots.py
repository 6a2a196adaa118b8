"""Backup of a running installation, restoration into an empty one, and verification.

A backup is a folder. Its format does not depend on the kind of database or storage:

    blobs/KEY               content of a blob, which never changes
    snapshots/TIME.jsonl    a header, the rows of all tables, a list of their blobs, and an end

A snapshot is one file. It gets its name once it is complete. Its last line has the hash of all other lines.
"""

import fcntl
import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import JSON, Connection, DateTime, MetaData, Table, insert, inspect, select, update
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from core.errors import ExpectedError
from core.scratch import scratch_folder
from core.store.db import migrate
from core.store.db.base import JSON_VALUE
from core.store.db.engine import make_engine
from core.store.db.ids import new_id
from core.store.db.session import Database, database_now, unavailability
from core.store.db.tables import (
    METADATA,
    QUEUED,
    RUNNING,
    ApiKey,
    Deletion,
    Job,
    JobImage,
    Model,
    Pile,
    PileFeatures,
    PileImage,
)
from core.store.errors import BlobDamaged, BlobNotFound, DatabaseUnavailable, StorageUnavailable
from core.store.jobs.lifecycle import end_lease
from core.store.storage import deletions, installation
from core.store.storage.atomic_write import PART
from core.store.storage.blobs import PROBE_BLOB, Blobs, is_key

logger = logging.getLogger(__name__)
BACKUP_FORMAT = 2
LEFT_OUT = {"alembic_version", "backbone_pulls", "deletions"}
"""Tables whose rows are not backed up, so that a restored installation deletes and downloads nothing."""
TABLES = [table for table in METADATA.sorted_tables if table.name not in LEFT_OUT]
OWNED = {"jobs": select(Job.id), "models": select(Model.id), "piles": select(Pile.id)}
"""Folders of the storage, and the ids of their owners: a job, a model or a pile owns a folder below them."""
REQUIRED = (
    select(JobImage.blob_key),
    select(Model.weights_key),
    select(Model.manifest_key),
    select(PileImage.blob_key).where(PileImage.blob_key.is_not(None)),
    select(PileFeatures.blob_key),
)
TIME = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"\d{8}T\d{6}Z")
HOLD_RENEWAL_SECONDS = 30.0
BATCH = 1_000
OnProgress = Callable[[str], None]


class BackupError(ExpectedError):
    """The backup can't be created, read or restored. `detail` says what to do."""


class Backup(Blobs):
    """Folder of a backup. It is created if necessary."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Open the folder.

        Args:
            scratch: folder for temporary files.
        """
        super().__init__(folder.absolute().as_uri())
        self.scratch = scratch
        self.snapshots = folder.absolute() / "snapshots"

    def names(self) -> list[str]:
        """Return the names of the snapshots, oldest first. Other files in the folder are left out."""
        return sorted(path.stem for path in self.snapshots.glob("*.jsonl") if NAME.fullmatch(path.stem))


@dataclass
class Snapshot:
    """Content of a snapshot."""

    name: str
    revision: str = ""
    """Alembic revision of the tables."""
    rows: dict[str, int] = field(default_factory=dict)
    """Number of rows by table."""
    blobs: int = 0
    blob_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    """Keys of blobs that the rows name, but the storage did not have."""


@contextmanager
def lock(folder: Path, *, to_read: bool = False) -> Iterator[None]:
    """Lock the backup for this process.

    Args:
        to_read: continue without a lock if the lock file can't be written, for example on a read-only mount.

    Raises:
        BackupError: another process holds the lock, or the folder can't be written.
    """
    with ExitStack() as opened:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = opened.enter_context((folder / ".lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = f"Another process uses the backup {folder}. Wait until that process has ended."
            raise BackupError(text) from error
        except OSError as error:
            if not to_read:
                raise BackupError(
                    f"The backup {folder} can't be written ({error.strerror}). Give a folder in which this "
                    "user may write."
                ) from error
        yield


def create(
    url: str, database: Database, blobs: Blobs, backup: Backup, *, report: OnProgress = lambda line: None
) -> Snapshot:
    """Add a snapshot to a backup. Blobs that the backup already has are not copied again.

    One transaction reads all rows. The blobs that they name are kept until all are copied.

    Args:
        url: SQLAlchemy URL of the database.
        report: receives progress as lines of text.

    Raises:
        DatabaseUnavailable, StorageUnavailable: no snapshot was added.
    """
    for stored in backup.list(""):
        if PART.search(stored.key):  # of a killed backup
            backup.delete(stored.key)
    names = backup.names()
    known: dict[str, dict[str, Any]] = {}
    try:
        for name in names[-1:]:
            known = {entry["key"]: entry for kind, entry in _lines(backup, name) if kind == "blob"}
    except BackupError:
        report(f"The snapshot {names[-1]} is damaged, so all files are copied again.")
    # The name sorts after all others, even if one of them was made while the clock was ahead.
    times = [datetime.strptime(name, TIME).replace(tzinfo=UTC) + timedelta(seconds=1) for name in names]
    made = Snapshot(max(datetime.now(UTC), *times, datetime.now(UTC)).strftime(TIME))
    with hold(database), _at_one_moment(url) as connection, scratch_folder(backup.scratch) as folder:
        made.revision = str(MigrationContext.configure(connection).get_current_revision())
        with (folder / "snapshot.jsonl").open("wb") as file:
            digest = hashlib.sha256()

            def write(kind: str, content: dict[str, Any]) -> None:
                line = (
                    json.dumps([kind, content], ensure_ascii=False, default=datetime.isoformat).encode()
                    + b"\n"
                )
                digest.update(line)
                file.write(line)

            header = {"format": BACKUP_FORMAT, "version": version("clipcite"), "revision": made.revision}
            write("backup", header)
            for table in TABLES:
                made.rows[table.name] = 0
                for row in connection.execute(select(table)):
                    write(table.name, row._asdict())
                    made.rows[table.name] += 1
            report(f"{sum(made.rows.values()):,} rows")
            owned = {f"{kind}/{id}" for kind, ids in OWNED.items() for id in connection.scalars(ids)}
            required = {str(key) for keys in REQUIRED for key in connection.scalars(keys)}
            # Files that are being stored or deleted, even within folders of existing jobs.
            pending = set(connection.scalars(select(Deletion.prefix)))
            connection.rollback()  # end the transaction before files are copied
            there = {stored.key: stored.bytes for stored in backup.list("blobs")}
            for stored in (stored for kind in OWNED for stored in blobs.list(kind)):
                parts = stored.key.split("/")
                ours = is_key(stored.key) and "/".join(parts[:2]) in owned  # not a .DS_Store, for example
                if not ours or pending & {"/".join(parts[:number]) for number in range(1, len(parts) + 1)}:
                    continue
                entry = known.get(stored.key)
                if entry is None or not entry["bytes"] == stored.bytes == there.get(f"blobs/{stored.key}"):
                    entry = _copy(blobs, backup, stored.key, folder / "blob")
                if entry is None:
                    continue
                write("blob", entry)
                required.discard(stored.key)
                made.blobs, made.blob_bytes = made.blobs + 1, made.blob_bytes + entry["bytes"]
                if made.blobs % BATCH == 0:
                    report(f"{made.blobs:,} files")
            made.missing = sorted(required)
            content = {"rows": made.rows, "blobs": made.blobs, "missing": made.missing}
            write("end", {**content, "sha256": digest.hexdigest()})
        backup.put(f"snapshots/{made.name}.jsonl", folder / "snapshot.jsonl")
    return made


def prune(backup: Backup, keep: int) -> list[str]:
    """Delete all but the newest `keep` snapshots, and blobs that only these had. Return their names."""
    gone, kept = backup.names()[:-keep], backup.names()[-keep:]
    for name in gone:
        (backup.snapshots / f"{name}.jsonl").unlink()
    if gone:
        needed = {entry["key"] for name in kept for kind, entry in _lines(backup, name) if kind == "blob"}
        for stored in backup.list("blobs"):
            if is_key(stored.key) and stored.key.removeprefix("blobs/") not in needed:
                backup.delete(stored.key)
    return gone


@dataclass
class Restored:
    """Outcome of a restoration."""

    snapshot: str
    rows: int
    blobs: int
    requeued: list[str]
    """Jobs that were running at the time of the snapshot. They are requeued without losing an attempt."""
    keys: list[str]
    """Prefixes of API keys that are valid again. Some may have been revoked after the snapshot."""


def restore(
    url: str, blobs: Blobs, backup: Backup, *, name: str | None = None, report: OnProgress = lambda line: None
) -> Restored:
    """Restore a snapshot. An interrupted call can be repeated.

    The installation gets a new id, because the original may still exist. One transaction stores all rows,
    after the files.

    Args:
        url: SQLAlchemy URL of a database without tables, or without jobs, models and keys.
        blobs: storage that is empty, or has only blobs of this snapshot.
        name: name of the snapshot. None: the newest one.

    Raises:
        BackupError: the installation is not empty, or the snapshot does not fit this version.
        BlobNotFound, BlobDamaged: the backup is damaged. The database is still empty.
    """
    snapshot = read(backup, name)
    if not migrate.is_known(snapshot.revision):
        raise BackupError(
            f"Another version of clipcite wrote the snapshot {snapshot.name}. Install that version, then "
            "restore."
        )
    with unavailability(), migrate.migrating(url) as connection:
        _check_empty(connection)
    entries = [entry for kind, entry in _lines(backup, snapshot.name) if kind == "blob"]
    own = {installation.KEY, PROBE_BLOB, *(entry["key"] for entry in entries)}
    foreign = {blob.key for blob in blobs.list("")} - own
    for key in [key for key in foreign if PART.sub("", key) in own]:  # of a killed restoration
        blobs.delete(key)
        foreign.discard(key)
    if foreign:
        raise BackupError(
            f"The storage has {len(foreign):,} other files, for example {min(foreign)}. Restore into an "
            "empty folder or bucket."
        )
    with scratch_folder(backup.scratch) as folder:
        for number, entry in enumerate(entries, start=1):
            backup.fetch(f"blobs/{entry['key']}", folder / "blob", sha256=entry["sha256"])
            blobs.put(entry["key"], folder / "blob")
            if number % BATCH == 0:
                report(f"{number:,} of {len(entries):,} files")
    blobs.delete(installation.KEY)  # the service writes the new id when it starts
    with unavailability(), migrate.migrating(url) as connection, _damage(snapshot.name):
        _check_empty(connection)
        # Create the tables in the snapshot's version, insert the rows, then migrate both.
        migrate.to_revision(connection, "base")
        migrate.to_revision(connection, snapshot.revision)
        _insert_rows(connection, backup, snapshot)
        migrate.to_revision(connection, "head")
        with Session(connection) as session:
            # Forget what concerned the old processes and the old storage.
            row = installation.find(session)
            row.id, row.hold_until, row.clock_at = new_id("ins"), None, None
            session.execute(update(Job).where(Job.status == QUEUED).values(dispatched_at=None))
            requeued, keys = _requeue(session), _valid_keys(session)
            session.flush()
    return Restored(snapshot.name, sum(snapshot.rows.values()), len(entries), requeued, keys)


@dataclass
class Verification:
    """Outcome of a verification."""

    rows: int = 0
    blobs: int = 0
    """Number of blobs that were read and compared with their hash."""
    problems: list[str] = field(default_factory=list)
    unowned: list[str] = field(default_factory=list)
    """Folders that no job, model or deletion names. They are kept."""


def verify_backup(backup: Backup, name: str | None = None) -> Verification:
    """Read a snapshot, by default the newest one, and check all hashes in it.

    Raises:
        BackupError: the snapshot does not exist, or its file is damaged.
    """
    snapshot = read(backup, name)
    result = Verification(rows=sum(snapshot.rows.values()))
    result.problems = [f"{key}: was missing at the time of the backup" for key in snapshot.missing]
    for kind, entry in _lines(backup, snapshot.name):
        if kind == "blob":
            _compare(result, backup, "blobs/", entry["key"], entry["bytes"], entry["sha256"])
    return result


def verify_installation(database: Database, blobs: Blobs) -> Verification:
    """Read all images and models of an installation, and check them against the hashes in their rows."""
    result = Verification()
    try:
        installation.check(database, blobs)
    except StorageUnavailable as error:
        result.problems.append(error.detail)
    stored = {folder for kind in OWNED for folder in blobs.folders(kind)}
    with database.read() as session:
        files = list(session.execute(select(JobImage.blob_key, JobImage.bytes, JobImage.sha256)))
        files += session.execute(select(Model.weights_key, Model.bytes, Model.sha256))
        copies = select(PileImage.blob_key, PileImage.bytes, PileImage.blob_sha256)
        files += session.execute(copies.where(PileImage.blob_key.is_not(None)))
        files += session.execute(select(PileFeatures.blob_key, PileFeatures.bytes, PileFeatures.sha256))
        manifests = session.scalars(select(Model.manifest_key)).all()
        owned = {f"{kind}/{id}" for kind, ids in OWNED.items() for id in session.scalars(ids)}
        owned |= set(session.scalars(select(Deletion.prefix)))
    result.rows = len(files)
    for key, size, sha256 in files:
        _compare(result, blobs, "", key, size, sha256)
    result.problems += [f"{key}: missing" for key in manifests if not blobs.exists(key)]
    result.unowned = sorted(stored - owned)
    return result


def _compare(result: Verification, blobs: Blobs, folder: str, key: str, size: int, sha256: str) -> None:
    try:
        blobs.verify(folder + key, bytes=size, sha256=sha256)
        result.blobs += 1
    except BlobNotFound:
        result.problems.append(f"{key}: missing")
    except BlobDamaged:
        result.problems.append(f"{key}: its content has changed")


def read(backup: Backup, name: str | None) -> Snapshot:
    """Check the hash of a snapshot, by default the newest one, and return it.

    Raises:
        BackupError: the snapshot does not exist, is damaged, or was written by another version.
    """
    names = backup.names()
    if not names:
        raise BackupError("The folder has no complete backup. Give the folder that `clipcite backup` wrote.")
    if name is not None and name not in names:
        raise BackupError(f"There is no snapshot {name}. The folder has: {', '.join(names)}.")
    snapshot = Snapshot(name or names[-1])
    with _damage(snapshot.name), (backup.snapshots / f"{snapshot.name}.jsonl").open("rb") as file:
        digest, last = hashlib.sha256(), next(file)
        kind, header = json.loads(last)
        if kind != "backup" or header["format"] != BACKUP_FORMAT:
            raise BackupError(
                f"The snapshot {snapshot.name} has another format. Restore it with the version of clipcite "
                "that wrote it."
            )
        for line in file:
            digest.update(last)
            last = line
        kind, end = json.loads(last)
        if kind != "end" or end["sha256"] != digest.hexdigest():
            raise ValueError("another hash")
        snapshot.revision = str(header["revision"])
        snapshot.rows = {str(name): int(number) for name, number in end["rows"].items()}
        snapshot.blobs, snapshot.missing = int(end["blobs"]), list(map(str, end["missing"]))
    return snapshot


def _lines(backup: Backup, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the kind and the content of each line of a snapshot."""
    with (backup.snapshots / f"{name}.jsonl").open("rb") as file:
        for line in file:
            with _damage(name):
                kind, content = json.loads(line)
                if kind == "blob" and not (
                    is_key(content["key"])
                    and isinstance(content["bytes"], int)
                    and isinstance(content["sha256"], str)
                ):
                    raise ValueError("not a blob")
            yield kind, content


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Convert errors from malformed lines to BackupError."""
    try:
        yield
    except (OperationalError, InterfaceError):  # of the database itself
        raise
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError) as error:
        raise _damaged(name) from error
    except SQLAlchemyError as error:
        raise _damaged(name) from error


def _damaged(name: str) -> BackupError:
    return BackupError(f"The snapshot {name} is damaged. Use another one (--snapshot NAME).")


@contextmanager
def hold(database: Database) -> Iterator[None]:
    """Stop all deletions of blobs. The hold expires soon after this process ends."""
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
def _at_one_moment(url: str) -> Iterator[Connection]:
    """Yield a connection that sees the database at one point in time, without a time limit."""
    engine = make_engine(url, migrating=True)
    options: dict[str, Any] = {"sqlite_begin": "BEGIN", "yield_per": BATCH}
    if engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    try:
        with unavailability(), engine.connect().execution_options(**options) as connection:
            yield connection
    finally:
        engine.dispose()


def _copy(blobs: Blobs, backup: Backup, key: str, path: Path) -> dict[str, Any] | None:
    """Copy a blob. Return its key, size and hash, or None if it no longer exists."""
    try:
        blobs.fetch(key, path)
    except BlobNotFound:
        logger.info("%s: deleted meanwhile", key)
        return None
    backup.put(f"blobs/{key}", path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"key": key, "bytes": path.stat().st_size, "sha256": digest}


def _check_empty(connection: Connection) -> None:
    for name in ("jobs", "models", "api_keys"):
        if (
            inspect(connection).has_table(name)
            and connection.exec_driver_sql(f"SELECT 1 FROM {name}").first()
        ):
            raise BackupError(
                f"The database already has {name.replace('_', ' ')}. Restore into an empty one: set "
                "CLIPCITE_DATA or CLIPCITE_DATABASE_URL to a new place."
            )


def _insert_rows(connection: Connection, backup: Backup, snapshot: Snapshot) -> None:
    """Replace the rows of all tables. The tables must have the snapshot's version."""
    tables = MetaData()
    tables.reflect(connection)
    for table in reversed(tables.sorted_tables):
        if table.name != "alembic_version":
            connection.execute(table.delete())
    for table in tables.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type = JSON_VALUE
    for kind, lines in groupby(_lines(backup, snapshot.name), key=lambda line: line[0]):
        if kind in snapshot.rows.keys() - LEFT_OUT:
            table = tables.tables[kind]
            while batch := [_with_times(table, row) for _, row in islice(lines, BATCH)]:
                connection.execute(insert(table), batch)


def _with_times(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its times parsed. Raise KeyError for an unknown column."""
    times = {name for name in row if isinstance(table.columns[name].type, DateTime)}
    return {
        name: datetime.fromisoformat(value) if name in times and value is not None else value
        for name, value in row.items()
    }


def _requeue(session: Session) -> list[str]:
    """Requeue the jobs that were running. Return their ids."""
    jobs = list(session.scalars(select(Job).where(Job.status == RUNNING)))
    for job in jobs:
        end_lease(
            session,
            job,
            at=database_now(session),
            attempts=max(0, job.attempts - 1),
            exhausted=False,
            code="restored",
            detail="The installation was restored from a backup while this job ran.",
        )
    return [job.id for job in jobs]


def _valid_keys(session: Session) -> list[str]:
    at = database_now(session)
    keys = session.scalars(select(ApiKey).where(ApiKey.revoked_at.is_(None)).order_by(ApiKey.created_at))
    return [key.prefix for key in keys if key.expires_at is None or key.expires_at > at]
