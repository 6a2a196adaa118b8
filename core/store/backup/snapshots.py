"""Format of a backup: a folder of snapshots that share their blobs.

    blobs/KEY                     content of a blob, which never changes
    snapshots/TIME/TABLE.jsonl    one row per line
    snapshots/TIME/blobs.jsonl    key, size and SHA-256 of each blob
    snapshots/TIME/manifest.json  written last; a snapshot without it is incomplete and ignored

The format does not depend on the kind of database or storage.
"""

import fcntl
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Table

from core.errors import ClipCiteError
from core.scratch import scratch_folder
from core.store.db.base import UtcDateTime
from core.store.db.migrate import is_known
from core.store.db.tables import METADATA
from core.store.storage.blobs import Blobs, is_key

FORMAT = 1
BLOBS, SNAPSHOTS, MANIFEST = "blobs", "snapshots", "manifest.json"
TABLES = [t for t in METADATA.sorted_tables if t.name not in {"backbone_pulls", "deletions"}]
"""Tables in the order of their foreign keys. A restored installation neither deletes files nor downloads
backbones."""
TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)(-\d+)?")


class BackupError(ClipCiteError):
    """The backup can't be created, read or restored. The detail says what to do."""


@dataclass(frozen=True)
class BlobEntry:
    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Description of a complete snapshot."""

    format: int
    version: str
    """Version of the software that wrote it."""
    revision: str
    """Revision of the tables."""
    installation: str
    """Id of the installation."""
    created_at: str
    files: dict[str, str]
    """SHA-256 of each `.jsonl` file."""
    rows: dict[str, int]
    """Number of rows by table."""
    blobs: int
    blob_bytes: int
    missing: list[str]
    """Keys that the rows name and that the storage did not have."""


_ENTRY, _MANIFEST = TypeAdapter(BlobEntry), TypeAdapter(Manifest)


class Backup(Blobs):
    """Folder of a backup, which is created if necessary."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Open the folder.

        Args:
            scratch: place of temporary files.
        """
        super().__init__(folder.absolute().as_uri())
        self.scratch = scratch


@contextmanager
def lock(folder: Path, *, to_read: bool = False) -> Iterator[None]:
    """Hold the backup for one process.

    Args:
        to_read: do without the lock where it can't be written, for example on a read-only mount.

    Raises:
        BackupError: another process has the backup, or the folder can't be written.
    """
    with ExitStack() as opened:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = opened.enter_context((folder / ".lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(
                f"Another process uses the backup {folder}. Wait until it has ended."
            ) from error
        except OSError as error:
            if not to_read:
                raise BackupError(
                    f"The backup {folder} can't be written ({error.strerror}). Give a folder in which this "
                    "user may write."
                ) from error
        yield


def names(backup: Backup) -> list[str]:
    """Return the names of the complete snapshots, oldest first."""
    folders = (folder.removeprefix(f"{SNAPSHOTS}/") for folder in backup.folders(SNAPSHOTS))
    present = sorted(filter(_NAME.fullmatch, folders))
    return [name for name in present if backup.exists(f"{SNAPSHOTS}/{name}/{MANIFEST}")]


def time_of(name: str) -> datetime:
    """Return the time at which a snapshot was made, by the clock of that time."""
    return datetime.strptime(name.partition("-")[0], TIME).replace(tzinfo=UTC)


def read_manifest(backup: Backup, name: str | None) -> tuple[str, Manifest]:
    """Return name and manifest of a snapshot, by default of the newest one.

    Raises:
        BackupError: there is no such snapshot, or another version wrote it.
    """
    known = names(backup)
    if not known:
        raise BackupError("The folder has no complete backup. Give the folder that `clipcite backup` wrote.")
    if name is not None and name not in known:
        raise BackupError(f"There is no snapshot {name}. The folder has: {', '.join(known)}.")
    chosen = name or known[-1]
    try:
        stored = json.loads(backup.get(f"{SNAPSHOTS}/{chosen}/{MANIFEST}"))
        if stored["format"] != FORMAT:
            raise BackupError(
                f"The snapshot {chosen} has the format {stored['format']}, and this version reads {FORMAT}. "
                f"Use the version that wrote it: {stored['version']}."
            )
        return chosen, _MANIFEST.validate_python(stored)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(chosen, MANIFEST) from error


def damaged(name: str, file: str) -> BackupError:
    """Return the error for a file of a snapshot with content that no backup writes."""
    return BackupError(f"{file} of the snapshot {name} is damaged. Use another snapshot (--snapshot NAME).")


def write_lines(backup: Backup, key: str, rows: Iterable[Mapping[str, Any]]) -> tuple[str, int]:
    """Write one JSON object per line. Return the file's SHA-256 and the number of rows."""
    digest, count = hashlib.sha256(), 0
    with scratch_folder(backup.scratch) as folder:
        path = folder / "rows.jsonl"
        with path.open("wb") as file:
            for row in rows:
                line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                file.write(line)
                count += 1
        backup.put(key, path)
    return digest.hexdigest(), count


def read_lines(backup: Backup, name: str, file: str, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield the rows of a `.jsonl` file after its hash was checked.

    Raises:
        BlobNotFound, BlobDamaged: the file is missing or changed.
        BackupError: a line is not a JSON object.
    """
    with scratch_folder(backup.scratch) as folder:
        path = folder / file
        backup.fetch(f"{SNAPSHOTS}/{name}/{file}", path, sha256=manifest.files.get(file, ""))
        with path.open("rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise damaged(name, file) from error
                if not isinstance(row, dict):
                    raise damaged(name, file)
                yield row


def read_blobs(backup: Backup, name: str, manifest: Manifest) -> list[BlobEntry]:
    """Return the blobs of a snapshot.

    Raises:
        BackupError, BlobNotFound, BlobDamaged: the file is damaged.
    """
    try:
        rows = [_ENTRY.validate_python(row) for row in read_lines(backup, name, f"{BLOBS}.jsonl", manifest)]
    except ValidationError as error:
        raise damaged(name, f"{BLOBS}.jsonl") from error
    if not all(is_key(row.key) for row in rows):
        raise damaged(name, f"{BLOBS}.jsonl")
    return rows


def write_manifest(backup: Backup, name: str, manifest: Manifest) -> None:
    """Complete a snapshot."""
    backup.put(f"{SNAPSHOTS}/{name}/{MANIFEST}", json.dumps(asdict(manifest), indent=1).encode())


def encode_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON values. Times become ISO 8601 in UTC."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def decode_row(table: Table, row: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Return a row with the values of the table's column types, without columns that were removed since.

    Raises:
        BackupError: the row has a column of a newer version.
    """
    unknown = row.keys() - table.columns.keys()
    if unknown and not is_known(manifest.revision):
        raise BackupError(
            f"The backup has columns of {table.name} that this version does not know: "
            f"{', '.join(sorted(unknown))}. Restore it with the version in its manifest, then upgrade."
        )
    return {
        name: datetime.fromisoformat(value)
        if value is not None and isinstance(table.columns[name].type, UtcDateTime)
        else value
        for name, value in row.items()
        if name not in unknown
    }
