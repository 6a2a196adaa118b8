"""Reads an archive of images without ever using a name in it as a path."""

import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from api.archives.errors import ArchiveError, Warnings, broken, reason, short, shown, too_large, warn
from api.archives.layout import Split, layout
from api.archives.members import CHUNK, ArchiveLimits, members
from core.clip.errors import BadImage

MAX_DEPTH = 32
MAX_ACCENTS = 30
"""Combining characters in a row, as in Unicode's Stream-Safe Text Format (UAX #15): a normal form takes
quadratic time in such a run."""
# A file that is called an image is never passed over in silence, also where we can't read its kind.
IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".raw", ".dng", ".cr2", ".nef", ".arw"}
    | {".ppm", ".pgm", ".tga", ".eps", ".ico"}
)
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
)
"""What zipfile raises for damaged archives. An OSError is the disk's and no word on the archive."""


@dataclass(frozen=True)
class Entry:
    """One image of the archive. Its bytes lie in `data`, unless `problem` says why not."""

    split: Split
    class_name: str  # as the folder is called, not cleaned
    file_name: str  # the path inside the archive
    data: Path
    problem: BadImage | None = None


def read_archive(
    file: BinaryIO, folder: Path, limits: ArchiveLimits = ArchiveLimits()
) -> tuple[list[Entry], Warnings]:
    """Lays every image of the archive into `folder`, as a file named by a number, and sorts them
    into splits and classes. What was passed over is in the warnings, one for each kind.

    Raises:
        ArchiveError: unsafe, broken, too large, or without an image.
    """
    with _broken_where_unreadable():
        return _read(file, folder, limits)


def extract(file: BinaryIO, folder: Path, wanted: Collection[str], limits: ArchiveLimits) -> None:
    """Lays the files that are called as `wanted` into `folder`, whatever folder of the archive holds them;
    nothing else of it is kept.

    Raises ArchiveError: unsafe, broken, too large, or with one of them twice.
    """
    budget = _Budget(limits.max_bytes)
    with _broken_where_unreadable():
        for member in members(file, limits):
            parts = _safe_parts(member.name)
            if not parts or member.is_folder or _is_hidden(parts) or parts[-1] not in wanted:
                continue
            path = folder / parts[-1]
            if path.exists():
                raise ArchiveError(
                    "duplicate_entry", f"The archive holds {parts[-1]!r} twice; pack one model's files only."
                )
            with member.open() as source:
                _copy(b"", source, path, limits.max_bytes, budget)


@contextmanager
def _broken_where_unreadable() -> Iterator[None]:
    """Raise ArchiveError for whatever zipfile raises for a damaged archive."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise broken(reason(error)) from error
    except UNREADABLE as error:
        raise broken("its directory can't be read") from error


def _read(file: BinaryIO, folder: Path, limits: ArchiveLimits) -> tuple[list[Entry], Warnings]:
    found: dict[tuple[str, ...], tuple[Path, BadImage | None]] = {}
    hidden: list[str] = []
    other: list[str] = []
    folders: set[str] = set()
    seen: set[str] = set()
    budget = _Budget(limits.max_bytes)
    for member in members(file, limits):
        parts = _safe_parts(member.name)
        if not parts:
            continue
        name = shown(parts)  # kept once: up to `max_entries` of them
        if _is_hidden(parts):
            if not member.is_folder:
                hidden.append(name)
            continue
        if member.is_folder:
            folders.add(name)
            continue
        if name in seen:
            raise ArchiveError(
                "duplicate_entry",
                f"The archive holds {short(name)!r} twice, so it isn't clear which one is meant; "
                "pack it anew.",
            )
        seen.add(name)
        path = folder / f"{len(found):06d}"
        image = Path(parts[-1].lower()).suffix in IMAGE_ENDINGS
        try:
            with member.open() as source:
                start = source.read(16)
                if not image and not _begins_like_an_image(start):
                    other.append(name)
                    continue
                if len(found) == limits.max_images:
                    raise ArchiveError(
                        "too_many_images",
                        f"The archive holds more than {limits.max_images:,} images; send fewer.",
                        413,
                    )
                problem = _copy(start, source, path, limits.max_image_bytes, budget)
        except UNREADABLE as error:
            if not image:
                other.append(name)
                continue
            problem = BadImage(
                "broken_entry",
                f"The archive's copy of this file is damaged ({reason(error)}); pack it anew.",
            )
        if problem is not None:
            path.write_bytes(b"")
        found[parts] = (path, problem)

    warnings: Warnings = []
    warn(warnings, "hidden_files", "{n} hidden or system files were passed over: {names}", hidden)
    warn(warnings, "other_files", "{n} files that are not images were passed over: {names}", other)
    if not found:
        raise ArchiveError(
            "no_images",
            "The archive holds no images; pack one folder per class with its images inside.",
        )
    empty = set(folders)
    for name in [*map(shown, found), *folders]:
        while name := name.rpartition("/")[0]:
            empty.discard(name)
    warn(warnings, "empty_folders", "{n} folders hold no images: {names}", sorted(empty))
    placed = layout(list(found), warnings)
    entries = [Entry(split, name, shown(parts), *found[parts]) for parts, split, name in placed]
    if not entries:
        raise ArchiveError(
            "no_images",
            "No image of the archive lies in a class folder; pack one folder per class with its images "
            "inside.",
        )
    return entries, warnings


def _safe_parts(name: str) -> tuple[str, ...]:
    """The components of an entry's name, NFC. Raises ArchiveError where it points outside."""
    accents = 0
    for character in "" if name.isascii() else name:
        accents = accents + 1 if unicodedata.combining(character) else 0
        if accents > MAX_ACCENTS:
            raise broken(f"the name {short(name)!r} has more than {MAX_ACCENTS} accents in a row")
    parts = tuple(part for part in unicodedata.normalize("NFC", name).split("/") if part not in {"", "."})
    if len(parts) > MAX_DEPTH:
        raise broken(f"the entry {short(name)!r} lies more than {MAX_DEPTH} folders deep")
    if name.startswith("/") or "\\" in name or ".." in parts or (parts and re.match("[A-Za-z]:", parts[0])):
        raise ArchiveError(
            "unsafe_path",
            f"The archive's entry {short(name)!r} is not a plain path inside the archive (it has '..', a "
            "leading '/', a drive letter or a backslash); pack it anew with relative paths and '/'.",
        )
    return parts


class _Budget:
    """How many unpacked bytes are left, those of damaged entries included."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.left = max_bytes

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise too_large(self.max_bytes)


def _copy(start: bytes, source: IO[bytes], path: Path, max_bytes: int, budget: _Budget) -> BadImage | None:
    size = 0
    chunk = start or source.read(CHUNK)
    with path.open("wb") as target:
        while chunk:
            budget.take(len(chunk))
            size += len(chunk)
            if size > max_bytes:
                return BadImage(
                    "image_too_large",
                    f"The file unpacks to more than {max_bytes:,} bytes, which is the most that is allowed. "
                    "Save it smaller or as JPEG.",
                )
            target.write(chunk)
            chunk = source.read(CHUNK)
    return None


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _begins_like_an_image(start: bytes) -> bool:
    return start.startswith(IMAGE_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
