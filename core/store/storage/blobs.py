"""Images and weights: bytes under keys, in a folder or in a bucket.

Keys are ours (ids and hashes), never a user's file or class name. Under a key there is only ever one content.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from core.settings import Settings
from core.store.errors import BlobDamaged, BlobNotFound, StorageFull, StorageUnavailable
from core.store.storage.atomic_write import remove_empty, write_file
from core.store.storage.bucket import BucketAccess, open_bucket

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
# How a full disk, a quota and a full S3 server (MinIO among others) say so.
_FULL = re.compile(r"No space left|Disk quota|507 Insufficient Storage|StorageFull|QuotaExceeded")


@dataclass(frozen=True)
class Stored:
    """What `Blobs.list` tells of a blob."""

    key: str
    bytes: int
    modified: datetime


class Blobs:
    """Raises StorageUnavailable, or StorageFull, when the storage does not do its part."""

    def __init__(self, url: str, access: BucketAccess | None = None) -> None:
        """On `file:///folder`, or on `s3://bucket/prefix` with that access."""
        self._folder: Path | None = None
        with _storage_errors("opened"):
            scheme = urlsplit(url).scheme
            if scheme == "file":
                self._folder = Path(url2pathname(urlsplit(url).path))
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store: ObjectStore = LocalStore(self._folder)
            elif scheme == "s3":
                self._store = open_bucket(url, access or BucketAccess())
            else:
                raise OSError(f"it must be file:///folder or s3://bucket/prefix, not {scheme or 'a path'}")

    @classmethod
    def of(cls, settings: Settings) -> "Blobs":
        """The storage of the settings."""
        key, secret = settings.s3_access_key, settings.s3_secret_key
        access = BucketAccess(
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key=key.get_secret_value() if key else None,
            secret_key=secret.get_secret_value() if secret else None,
        )
        return cls(settings.blobs_url(), access)

    def put(self, key: str, data: bytes | Path) -> None:
        """Store bytes or a file's content: readers see all of it or nothing. It survives a power
        cut from the moment that this returns."""
        _checked(key)
        with _storage_errors("written"):
            if self._folder is not None:
                write_file(self._folder, self._folder / key, data)
            else:
                obstore.put(self._store, key, data)

    def get(self, key: str) -> bytes:
        """Raises BlobNotFound."""
        with _storage_errors("read", key):
            return bytes(obstore.get(self._store, _checked(key)).bytes())

    def fetch(self, key: str, to: Path, *, sha256: str | None = None) -> None:
        """Copy to a file, without holding it in memory.

        Raises:
            BlobNotFound.
            BlobDamaged: it is not what `sha256` says, if it is given; then there is no file.
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
                    f"The disk of {to.parent.parent} is full, where jobs are worked on. Make room there."
                ) from error
            raise
        finally:
            part.unlink(missing_ok=True)

    def verify(self, key: str, *, bytes: int, sha256: str) -> None:
        """Read it back: is it what was put? Raises BlobDamaged, BlobNotFound."""
        with _storage_errors("read", key):
            size = obstore.head(self._store, _checked(key))["size"]
        digest = hashlib.sha256()
        for chunk in self._chunks(key) if size == bytes else ():
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise _damaged(key)

    def folders(self, prefix: str) -> list[str]:
        """The folders directly below `prefix`, with it; an empty `prefix` is the root. A bucket answers
        with 1,000 of them per request, however many blobs they hold."""
        with _storage_errors("listed"):
            found = obstore.list_with_delimiter(self._store, _checked(prefix) if prefix else None)
            return sorted(found["common_prefixes"])

    def list(self, prefix: str) -> list[Stored]:
        """Everything below `prefix`, a folder; an empty one is everything."""
        with _storage_errors("listed"):
            chunks = obstore.list(self._store, _checked(prefix) if prefix else None)
            return [Stored(i["path"], i["size"], i["last_modified"]) for chunk in chunks for i in chunk]

    def is_empty(self) -> bool:
        with _storage_errors("listed"):
            return next(iter(obstore.list(self._store, chunk_size=1)), None) is None

    def delete(self, key: str) -> None:
        """What is gone already is no error."""
        with suppress(BlobNotFound), _storage_errors("deleted", key):
            obstore.delete(self._store, _checked(key))

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything below `prefix`, a folder. What is gone already is no error."""
        _checked(prefix)
        for attempt in range(5):
            keys = [blob.key for blob in self.list(prefix)]
            if not keys:
                break
            try:
                with _storage_errors("deleted", prefix):
                    obstore.delete(self._store, keys)
            except BlobNotFound:  # somebody else deletes the same
                if attempt == 4:
                    raise
        if self._folder is not None:
            remove_empty(self._folder / prefix)

    def check_folder(self) -> None:
        """Raises StorageUnavailable if the storage is a folder that is gone."""
        if self._folder is not None and not self._folder.is_dir():
            raise StorageUnavailable(
                f"The folder {self._folder} is gone, a lost mount for example. Bring it back and restart."
            )

    def check(self) -> None:
        """Raises StorageUnavailable unless a blob can be written, read and deleted."""
        self.check_folder()  # a write would make it anew
        folder = f"probe-{secrets.token_hex(8)}"
        self.put(f"{folder}/probe", b"clipcite")
        try:
            if self.get(f"{folder}/probe") != b"clipcite":
                raise StorageUnavailable(
                    "The storage gives back other bytes than were written. Check the disk or the bucket of "
                    "CLIPCITE_BLOB_URL."
                )
        finally:
            self.delete_prefix(folder)

    def _chunks(self, key: str) -> Iterator[bytes]:
        """Only what the storage does wrong becomes an error of the storage, not what the reader does."""
        with _storage_errors("read", key):
            chunks = iter(obstore.get(self._store, _checked(key)).stream())
        while True:
            with _storage_errors("read", key):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield bytes(chunk)


def _checked(key: str) -> str:
    """The last wall against a path made from a stranger's text."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"Not a key of a blob: {key!r}.")
    return key


def _damaged(key: str) -> BlobDamaged:
    return BlobDamaged(
        f"The stored file {key!r} is not what was written (another size or SHA-256). Restore it from a "
        "backup of the storage."
    )


@contextmanager
def _storage_errors(verb: str, key: str | None = None) -> Iterator[None]:
    """`key` is what was asked for: without one nothing can be missing."""
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
                "The storage is full. Make room on the disk or in the bucket of CLIPCITE_BLOB_URL."
            ) from error
        raise StorageUnavailable(
            f"The storage can't be {verb} ({_said(error)}). Check CLIPCITE_BLOB_URL, that the service may "
            "write there and, for a bucket, CLIPCITE_S3_ENDPOINT and the keys."
        ) from error


def _said(error: Exception) -> str:
    """One line of what obstore says in many, with the code of an S3 error."""
    first = next(iter(str(error).splitlines()), type(error).__name__).partition(": <?xml")[0]
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    return f"{first}, {code[1]}" if code else first
