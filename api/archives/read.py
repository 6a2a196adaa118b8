"""Reading of image archives. A name from an archive is never used as a path."""

import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from api.archives.members import CHUNK, ArchiveError, ArchiveLimits, broken, members, reason, too_large
from clipcite.types.folders import UnclearLayout, Warnings, is_hidden, place_images, short, warn
from clipcite.types.images import Image
from clipcite.types.problems import Notice
from core.clip.errors import BadImage

MAX_DEPTH = 32
MAX_ACCENTS = 30
"""Maximum number of combining characters in a row, as in Unicode's Stream-Safe Text Format (UAX #15).

Normalisation takes quadratic time for such a run.
"""
# Endings of files that are never ignored, even if their format is not supported.
NEVER_IGNORED = frozenset(
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
"""Exceptions that zipfile raises for damaged archives. OSError is not one, because it concerns the disk."""


@contextmanager
def _broken_where_unreadable() -> Iterator[None]:
    """Convert zipfile's exceptions for damaged archives to ArchiveError."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise broken(reason(error)) from error
    except UNREADABLE as error:
        raise broken("its directory can't be read") from error


@_broken_where_unreadable()
def read_archive(
    file: BinaryIO,
    folder: Path,
    limits: ArchiveLimits = ArchiveLimits(),
    take: Callable[[int], None] = lambda size: None,
) -> tuple[list[Image], Warnings]:
    """Extract every image to `folder`, as numbered files, and assign splits and classes.

    Args:
        take: called with the number of bytes before they are written. It may raise an error.

    Returns:
        The images, with the names of their folders and their paths inside the archive, and one warning per
        kind of ignored entries. The file of an image with a `problem` is empty.

    Raises:
        ArchiveError: the archive is unsafe, damaged, too large, or has no images.
    """
    images: dict[tuple[str, ...], tuple[Path, BadImage | None]] = {}
    hidden: list[str] = []
    other: list[str] = []
    folders: set[str] = set()
    seen: set[str] = set()
    budget = _Budget(limits.max_bytes, take)
    for member in members(file, limits):
        parts = safe_parts(member.name)
        if not parts:
            continue
        name = "/".join(parts)  # one string per entry saves memory, with up to `max_entries` entries
        if any(map(is_hidden, parts)):
            if not member.is_folder:
                hidden.append(name)
            continue
        if member.is_folder:
            folders.add(name)
            continue
        if name in seen:
            raise ArchiveError(
                "duplicate_entry",
                f"The archive has the file {short(name)!r} twice. Pack the archive again with one of them.",
            )
        seen.add(name)
        path = folder / f"{len(images):06d}"
        named_image = is_image(parts[-1])
        try:
            with member.open() as source:
                start = source.read(16)
                if not named_image and not _begins_like_an_image(start):
                    other.append(name)
                    continue
                if len(images) == limits.max_images:
                    raise ArchiveError(
                        "too_many_images",
                        f"The archive has more than {limits.max_images:,} images. Send fewer.",
                        413,
                    )
                problem = _copy(start, source, path, limits.max_image_bytes, budget)
        except UNREADABLE as error:
            if not named_image:
                other.append(name)
                continue
            problem = BadImage(
                "broken_entry",
                f"The archive's copy of this file is damaged ({reason(error)}). Pack it again.",
            )
        if problem is not None:
            path.write_bytes(b"")
        images[parts] = (path, problem)

    warnings: Warnings = []
    warn(warnings, "hidden_files", "{n} hidden or system files were ignored: {names}", hidden)
    warn(warnings, "other_files", "{n} files that are not images were ignored: {names}", other)
    if not images:
        raise ArchiveError(
            "no_images",
            "The archive has no images. Pack one folder per class with its images inside.",
        )
    empty = set(folders)
    for name in [*map("/".join, images), *folders]:
        while name := name.rpartition("/")[0]:
            empty.discard(name)
    warn(warnings, "empty_folders", "{n} folders have no images: {names}", sorted(empty))
    try:
        placed, _, more = place_images(list(images))
    except UnclearLayout as error:
        raise ArchiveError("unclear_layout", str(error)) from error
    entries = [
        Image(
            path,
            name,
            split,
            "/".join(parts),
            problem=Notice(code=bad.code, detail=bad.detail) if bad else None,
        )
        for parts, split, name in placed
        for path, bad in [images[parts]]
    ]
    if not entries:
        raise ArchiveError(
            "no_images",
            "No image of the archive is in a class folder. Pack one folder per class with its images.",
        )
    return entries, [*warnings, *more]


@_broken_where_unreadable()
def extract(
    file: BinaryIO,
    folder: Path,
    wanted: Collection[str],
    limits: ArchiveLimits,
    take: Callable[[int], None],
) -> None:
    """Extract the files with a name in `wanted` to `folder`, from any folder of the archive.

    See `read_archive` for `take`.

    Raises:
        ArchiveError: the archive is unsafe, damaged, too large, or has one of the files twice.
    """
    budget = _Budget(limits.max_bytes, take)
    for member in members(file, limits):
        parts = safe_parts(member.name)
        hidden = any(map(is_hidden, parts))
        if not parts or member.is_folder or hidden or parts[-1] not in wanted:
            continue
        path = folder / parts[-1]
        if path.exists():
            raise ArchiveError(
                "duplicate_entry",
                f"The archive has {parts[-1]!r} twice. Pack the files of only one model.",
            )
        with member.open() as source:
            _copy(b"", source, path, limits.max_bytes, budget)


def is_image(name: str) -> bool:
    """Return whether a file is an image by its name."""
    return Path(name.lower()).suffix in NEVER_IGNORED


def safe_parts(name: str) -> tuple[str, ...]:
    """Return the components of a path in NFC.

    Raises:
        ArchiveError: the path is too deep, points outside its folder, or has too many accents in a row.
    """
    accents = 0
    for character in "" if name.isascii() else name:
        accents = accents + 1 if unicodedata.combining(character) else 0
        if accents > MAX_ACCENTS:
            raise _unsafe(name, f"has more than {MAX_ACCENTS} accents in a row")
    parts = tuple(part for part in unicodedata.normalize("NFC", name).split("/") if part not in {"", "."})
    if len(parts) > MAX_DEPTH:
        raise _unsafe(name, f"is more than {MAX_DEPTH} folders deep")
    if name.startswith("/") or "\\" in name or ".." in parts or (parts and re.match("[A-Za-z]:", parts[0])):
        raise _unsafe(
            name,
            "is not a relative path with '/' (it has '..', a leading '/', a drive letter or a backslash)",
        )
    return parts


def _unsafe(name: str, fault: str) -> ArchiveError:
    return ArchiveError(
        "unsafe_path",
        f"The path {short(name)!r} {fault}. Rename it; if it is in an archive, pack it again.",
    )


class _Budget:
    """Budget of unpacked bytes. Damaged entries count too."""

    def __init__(self, max_bytes: int, take: Callable[[int], None]) -> None:
        self.max_bytes = max_bytes
        self.left = max_bytes
        self._take = take

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise too_large(self.max_bytes)
        self._take(size)


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
                    f"The file unpacks to more than {max_bytes:,} bytes, which is the maximum. Save it "
                    "smaller or as JPEG.",
                )
            target.write(chunk)
            chunk = source.read(CHUNK)
    return None


def _begins_like_an_image(start: bytes) -> bool:
    return start.startswith(IMAGE_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
