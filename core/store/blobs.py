"""Pictures and weights: bytes under keys, in a folder or in a bucket.

Keys are ours (ids and hashes), never a user's file or class name. A key is written once.
"""

import os
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
from obstore.store import LocalStore, ObjectStore, from_url

from core.store.errors import BlobNotFound, StorageFull, StorageUnavailable

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Stored:
    """What `Blobs.list` tells of a blob."""

    key: str
    bytes: int
    modified: datetime


class Blobs:
    """Raises StorageUnavailable, or StorageFull, when the storage does not do its part."""

    def __init__(self, url: str) -> None:
        self._folder: Path | None = None
        with _storage_errors("opened"):
            if urlsplit(url).scheme == "file":
                self._folder = Path(url2pathname(urlsplit(url).path))
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store: ObjectStore = LocalStore(self._folder)
            else:
                try:
                    self._store = from_url(url)
                except ValueError as error:
                    raise OSError(f"{error}, in {url!r}") from error

    def put(self, key: str, data: bytes | Path) -> None:
        """Store bytes or a file's content: readers see all of it or nothing. It survives a power
        cut from the moment that this returns."""
        with _storage_errors("written"):
            obstore.put(self._store, _checked(key), data)
            if self._folder is not None:
                self._sync(key)

    def get(self, key: str) -> bytes:
        """Raises BlobNotFound."""
        with _storage_errors("read", key):
            return bytes(obstore.get(self._store, _checked(key)).bytes())

    def fetch(self, key: str, to: Path) -> None:
        """Copy to a file, without holding it in memory. Raises BlobNotFound."""
        part = to.with_name(f"{to.name}.{secrets.token_hex(4)}.part")
        try:
            with _storage_errors("read", key):
                chunks = obstore.get(self._store, _checked(key)).stream()
                with part.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                part.replace(to)
        finally:
            part.unlink(missing_ok=True)

    def list(self, prefix: str) -> list[Stored]:
        """Everything below `prefix`, a folder; an empty one is everything."""
        with _storage_errors("listed"):
            chunks = obstore.list(self._store, _checked(prefix) if prefix else None)
            return [Stored(i["path"], i["size"], i["last_modified"]) for chunk in chunks for i in chunk]

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything below `prefix`, a folder. What is gone already is no error."""
        _checked(prefix)
        for attempt in range(5):
            keys = [blob.key for blob in self.list(prefix)]
            if not keys:
                break
            try:
                with _storage_errors("deleted"):
                    obstore.delete(self._store, keys)
            except BlobNotFound:  # somebody else deletes the same
                if attempt == 4:
                    raise
        if self._folder is not None:
            _remove_empty(self._folder / prefix)

    def check(self) -> None:
        """Raises StorageUnavailable unless a blob can be written, read and deleted."""
        if self._folder is not None and not self._folder.is_dir():  # a write would make it anew
            raise StorageUnavailable(
                f"The folder {self._folder} is gone, a lost mount for example. Bring it back and restart."
            )
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

    def _sync(self, key: str) -> None:
        """obstore writes beside the target and renames, but leaves both in the system's memory."""
        assert self._folder is not None
        path = self._folder / key
        _fsync(path)
        while path != self._folder:  # new folders are entries of their parents
            path = path.parent
            _fsync(path)


def _remove_empty(folder: Path) -> None:
    """Not its parents: somebody may be about to write beside it."""
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(path).rmdir()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checked(key: str) -> str:
    """The last wall against a path made from a stranger's text."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"Not a key of a blob: {key!r}.")
    return key


@contextmanager
def _storage_errors(verb: str, key: str | None = None) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BlobNotFound(
            f"The stored file {key or ''!r} is missing. Restore it from a backup of the storage."
        ) from error
    except (BaseError, OSError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        if "No space left" in said or "Disk quota" in said:
            raise StorageFull("The storage is full. Make room on the disk of CLIPCITE_BLOB_URL.") from error
        raise StorageUnavailable(
            f"The storage can't be {verb} ({said}). Check CLIPCITE_BLOB_URL, that the service may "
            "write there and, for a bucket, that it can be reached."
        ) from error
