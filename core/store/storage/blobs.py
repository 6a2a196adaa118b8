"""Blob storage for images and weights, in a folder or in a bucket.

Keys consist of ids and hashes, never of users' file or class names. The content under a key never changes.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from core.settings import Settings
from core.store.errors import BlobDamaged, BlobNotFound, StorageFull, StorageUnavailable
from core.store.storage.atomic_write import remove_empty, write_files
from core.store.storage.bucket import open_bucket

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
# Messages of a full disk, an exceeded quota and a full S3 server such as MinIO.
_FULL = re.compile(r"No space left|Disk quota|507 Insufficient Storage|StorageFull|QuotaExceeded")
PARALLEL_PUTS = 16
"""Maximum number of parallel uploads to a bucket. Each waits for the server most of the time."""
PROBE_BLOB = "probe"
"""Key of the blob that `Blobs.check` writes. If a killed process leaves it, the next check removes it."""
ABSENT = (
    "The storage can't be found. Try again in a moment. If the error persists, the operator finds the cause "
    "in the service's log."
)
"""Text for clients. The operator's text contains folders."""


@dataclass(frozen=True)
class Stored:
    """Entry of `Blobs.list`."""

    key: str
    bytes: int


class Blobs:
    """The blob storage. All methods raise StorageUnavailable, or StorageFull, if the storage fails."""

    def __init__(self, url: str) -> None:
        """Open the storage at `file:///folder` or `s3://bucket/prefix`."""
        self.folder: Path | None = None
        """The folder of the blobs; None for a bucket."""
        with _storage_errors("opened"):
            scheme = urlsplit(url).scheme
            if scheme == "file":
                self.folder = Path(url2pathname(urlsplit(url).path))
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store: ObjectStore = LocalStore(self.folder)
            elif scheme == "s3":
                self._store = open_bucket(url)
            else:
                raise OSError(f"it must be file:///folder or s3://bucket/prefix, not {scheme or 'a path'}")

    @classmethod
    def of(cls, settings: Settings) -> "Blobs":
        """Open the storage of the settings."""
        return cls(settings.blobs_url())

    def put(self, key: str, data: bytes | Path) -> None:
        """Store bytes or a file's content, atomically. After the call the blob survives a power cut."""
        self.put_all([(key, data)])

    def put_all(self, blobs: Iterable[tuple[str, bytes | Path]]) -> None:
        """Store several blobs as `put` does. A bucket gets PARALLEL_PUTS at a time.

        After a failure, any part of the blobs may be stored. The iterable is consumed as blobs are stored.
        """
        self.check_folder()  # otherwise a write would recreate a lost folder
        with _storage_errors("written"):
            if self.folder is not None:
                folder = self.folder
                write_files(folder, ((folder / _checked(key), data) for key, data in blobs))
                return
            with ThreadPoolExecutor(PARALLEL_PUTS, thread_name_prefix="put") as threads:
                running: set[Future[object]] = set()
                for key, data in blobs:
                    if len(running) == PARALLEL_PUTS:  # only these are in memory
                        done, running = wait(running, return_when=FIRST_COMPLETED)
                        _raise_first(done)
                    running.add(threads.submit(obstore.put, self._store, _checked(key), data))
                _raise_first(wait(running).done)

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """Return the content of a blob.

        Raises:
            BlobNotFound: the blob is missing.
            BlobDamaged: the blob does not match `sha256`.
        """
        with _storage_errors("read", key):
            data = bytes(obstore.get(self._store, _checked(key)).bytes())
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise _damaged(key)
        return data

    def exists(self, key: str) -> bool:
        """Return whether the storage has this blob."""
        try:
            with _storage_errors("read", key):
                obstore.head(self._store, _checked(key))
        except BlobNotFound:
            return False
        return True

    def fetch(self, key: str, to: Path, *, sha256: str | None = None) -> None:
        """Copy a blob to a file in chunks.

        Raises:
            BlobNotFound: the blob is missing.
            BlobDamaged: the blob does not match `sha256`. No file is created.
        """
        part = to.with_name(f"{to.name}.{secrets.token_hex(4)}.part")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for chunk in self._chunks(key):
                    digest.update(chunk)
                    file.write(chunk)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise _damaged(key)
            part.replace(to)
        except OSError as error:
            if _FULL.search(str(error)):
                raise StorageFull(
                    f"The disk of the working folder {to.parent.parent} is full. Free some space there."
                ) from error
            raise
        finally:
            part.unlink(missing_ok=True)

    def verify(self, key: str, *, bytes: int, sha256: str) -> None:
        """Read a blob back and compare its size and hash.

        Raises:
            BlobNotFound: the blob is missing.
            BlobDamaged: size or hash differ.
        """
        with _storage_errors("read", key):
            size = obstore.head(self._store, _checked(key))["size"]
        digest = hashlib.sha256()
        for chunk in self._chunks(key) if size == bytes else ():
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise _damaged(key)

    def folders(self, prefix: str) -> list[str]:
        """Return the full paths of the folders directly below `prefix`. An empty `prefix` is the root.

        A bucket needs one request per 1,000 folders, however many blobs they have.
        """
        with _storage_errors("listed"):
            listing = obstore.list_with_delimiter(self._store, _checked(prefix) if prefix else None)
            return sorted(listing["common_prefixes"])

    def list(self, prefix: str) -> list[Stored]:
        """Return all blobs below the folder `prefix`. An empty `prefix` is the root."""
        with _storage_errors("listed"):
            chunks = obstore.list(self._store, _checked(prefix) if prefix else None)
            return [Stored(i["path"], i["size"]) for chunk in chunks for i in chunk]

    def delete(self, key: str) -> None:
        """Delete a blob, if it exists."""
        with suppress(BlobNotFound), _storage_errors("deleted", key):
            obstore.delete(self._store, _checked(key))

    def delete_prefix(self, prefix: str, *, only: re.Pattern[str] | None = None) -> None:
        """Delete all blobs below the folder `prefix`, if any.

        Args:
            only: pattern that the rest of a key must match.
        """
        _checked(prefix)
        for attempt in range(5):
            keys = [blob.key for blob in self.list(prefix)]
            if only is not None:
                keys = [key for key in keys if only.fullmatch(key, len(prefix) + 1)]
            if not keys:
                break
            try:
                with _storage_errors("deleted", prefix):
                    obstore.delete(self._store, keys)
            except BlobNotFound:  # another process deleted it meanwhile
                if attempt == 4:
                    raise
        if self.folder is not None:
            remove_empty(self.folder / prefix)

    def check_folder(self) -> None:
        """Raise StorageUnavailable if the storage is a folder that no longer exists."""
        if self.folder is not None and not self.folder.is_dir():
            raise StorageUnavailable(
                f"The folder {self.folder} is gone, perhaps because of a lost mount. Restore it and restart.",
                ABSENT,
            )

    def check(self) -> None:
        """Raise StorageUnavailable unless a blob can be written, read and deleted."""
        try:
            self.put(PROBE_BLOB, PROBE_BLOB.encode())
            if self.get(PROBE_BLOB) != PROBE_BLOB.encode():
                raise StorageUnavailable(
                    "The storage did not return the bytes that were written. Check the disk or the bucket of "
                    "CLIPCITE_BLOB_URL."
                )
        except BlobNotFound:
            pass  # the check of another process deleted it meanwhile
        finally:
            self.delete(PROBE_BLOB)

    def _chunks(self, key: str) -> Iterator[bytes]:
        """Yield a blob in chunks. Convert errors of the storage, but not of the consumer."""
        with _storage_errors("read", key):
            chunks = iter(obstore.get(self._store, _checked(key)).stream())
        while True:
            with _storage_errors("read", key):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield bytes(chunk)


def _raise_first(done: Iterable[Future[object]]) -> None:
    for future in done:
        future.result()


def is_key(text: str) -> bool:
    """Return whether the text is a valid key. A valid key can't point outside the storage."""
    return _KEY.fullmatch(text) is not None


def _checked(key: str) -> str:
    """Return the key, or raise ValueError if it is invalid: a last defence against path traversal."""
    if not is_key(key):
        raise ValueError(f"Not a blob key: {key!r}.")
    return key


def _damaged(key: str) -> BlobDamaged:
    return BlobDamaged(
        f"The stored file {key!r} is damaged: its size or SHA-256 has changed. Restore it from a backup of "
        "the storage."
    )


@contextmanager
def _storage_errors(verb: str, key: str | None = None) -> Iterator[None]:
    """Convert exceptions of the storage. Without a `key`, BlobNotFound is never raised."""
    try:
        yield
    except (BaseError, OSError) as error:
        text = str(error)
        if isinstance(error, FileNotFoundError) and key is not None and "NoSuchBucket" not in text:
            raise BlobNotFound(
                f"The stored file {key!r} is missing. Restore it from a backup of the storage."
            ) from error
        if _FULL.search(text):
            raise StorageFull(
                "The storage is full. Free some space on the disk or in the bucket of CLIPCITE_BLOB_URL."
            ) from error
        raise StorageUnavailable(
            f"The storage can't be {verb} ({_reason(error)}). Check CLIPCITE_BLOB_URL, that the service may "
            "write there and, for a bucket, AWS_ENDPOINT_URL and the keys.",
            f"The storage can't be {verb}. Try again in a moment. If the error persists, the operator "
            "finds the cause in the service's log.",
        ) from error


def _reason(error: Exception) -> str:
    """Return the first line of obstore's message, with the code of an S3 error."""
    first = next(iter(str(error).splitlines()), type(error).__name__).partition(": <?xml")[0]
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return f"{first}, {code[1]}" if code else first
