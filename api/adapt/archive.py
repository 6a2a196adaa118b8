"""Reads a .zip, .tar or .tar.gz of pictures without ever using a name in it as a path.

Layout: `class name/picture.jpg`, or `train/class name/picture.jpg` and `test/class name/picture.jpg`
(`val`, `valid` and `validation` serve as `test` where there is none). Folders that hold everything
else are passed over; a picture deeper than its class folder belongs to that class, as in torchvision's
ImageFolder. Where a layout could mean two things the archive is refused: a label is never guessed.
"""

import gzip
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, BinaryIO, Literal, Protocol

from core.clip.errors import BadPicture, ClipCiteError

Split = Literal["train", "test"]
Warnings = list[dict[str, str]]

CHUNK = 65_536
MAX_DIRECTORY_BYTES = 16_000_000  # of a zip
MAX_NAME = 8_192
MAX_DEPTH = 32
MAX_TAR_HEADER = 4_096  # on average
TRAIN = {"train", "training"}
TEST = {"test", "testing"}
VALIDATION = {"val", "valid", "validation"}
# A file that is called a picture is never passed over in silence, also where we can't read its kind.
PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".raw", ".dng", ".cr2", ".nef", ".arw"}
    | {".ppm", ".pgm", ".tga", ".eps", ".ico"}
)
PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")


class ArchiveError(ClipCiteError):
    """The archive as a whole is refused; `code` says why."""

    def __init__(self, code: str, detail: str, status: int = 422) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class ArchiveLimits:
    max_pictures: int = 5_000
    max_picture_bytes: int = 20_000_000
    max_bytes: int = 1_000_000_000  # unpacked, whatever the sizes in the archive claim
    max_entries: int = 20_000  # of any kind


@dataclass(frozen=True)
class Entry:
    """One picture of the archive. Its bytes lie in `data`, unless `problem` says why not."""

    split: Split
    class_name: str  # as the folder is called, not cleaned
    file_name: str  # the path inside the archive
    data: Path
    problem: BadPicture | None = None


def read_archive(
    file: BinaryIO, folder: Path, limits: ArchiveLimits = ArchiveLimits()
) -> tuple[list[Entry], Warnings]:
    """Lays every picture of the archive into `folder`, as a file named by a number, and sorts them
    into splits and classes. What was passed over is in the warnings, one for each kind.

    Raises:
        ArchiveError: unsafe, broken, too large, or without a picture.
    """
    with _broken_where_unreadable():
        return _read(file, folder, limits)


def lay_out(file: BinaryIO, folder: Path, wanted: Collection[str], limits: ArchiveLimits) -> None:
    """Lays the files that are called as `wanted` into `folder`, whatever folder of the archive holds them;
    nothing else of it is kept.

    Raises ArchiveError: unsafe, broken, too large, or with one of them twice.
    """
    budget = _Budget(limits.max_bytes)
    with _broken_where_unreadable():
        for member in _members(file, limits):
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
    """Says of a damaged archive what the libraries say in many ways."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _broken(_reason(error)) from error
    except (NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise _broken("its directory can't be read") from error


def _read(file: BinaryIO, folder: Path, limits: ArchiveLimits) -> tuple[list[Entry], Warnings]:
    found: dict[tuple[str, ...], tuple[Path, BadPicture | None]] = {}
    hidden: list[str] = []
    other: list[str] = []
    folders: set[tuple[str, ...]] = set()
    seen: set[tuple[str, ...]] = set()
    budget = _Budget(limits.max_bytes)
    for member in _members(file, limits):
        parts = _safe_parts(member.name)
        if not parts:
            continue
        if _is_hidden(parts):
            if not member.is_folder:
                hidden.append(_shown(parts))
            continue
        if member.is_folder:
            folders.add(parts)
            continue
        if parts in seen:
            raise ArchiveError(
                "duplicate_entry",
                f"The archive holds {_short(_shown(parts))!r} twice, so it isn't clear which one is meant; "
                "pack it anew.",
            )
        seen.add(parts)
        path = folder / f"{len(found):06d}"
        picture = Path(parts[-1].lower()).suffix in PICTURE_ENDINGS
        try:
            with member.open() as source:
                start = source.read(16)
                if not picture and not _begins_like_a_picture(start):
                    other.append(_shown(parts))
                    continue
                if len(found) == limits.max_pictures:
                    raise ArchiveError(
                        "too_many_pictures",
                        f"The archive holds more than {limits.max_pictures:,} pictures; send fewer.",
                        413,
                    )
                problem = _copy(start, source, path, limits.max_picture_bytes, budget)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            ValueError,
            struct.error,
        ) as error:
            if isinstance(member, _TarMember):
                raise  # there is no way to the next entry
            if not picture:
                other.append(_shown(parts))
                continue
            problem = BadPicture(
                "broken_entry",
                f"The archive's copy of this file is damaged ({_reason(error)}); pack it anew.",
            )
        if problem is not None:
            path.write_bytes(b"")
        found[parts] = (path, problem)

    warnings: Warnings = []
    warn(warnings, "hidden_files", "{n} hidden or system files were passed over: {names}", hidden)
    warn(warnings, "other_files", "{n} files that are not pictures were passed over: {names}", other)
    if not found:
        raise ArchiveError(
            "no_pictures",
            "The archive holds no pictures; pack one folder per class with its pictures inside.",
        )
    used = {parts[:depth] for parts in [*found, *folders] for depth in range(1, len(parts))}
    empty = sorted(_shown(parts) for parts in folders - used)
    warn(warnings, "empty_folders", "{n} folders hold no pictures: {names}", empty)
    placed = _layout(list(found), warnings)
    entries = [Entry(split, name, _shown(parts), *found[parts]) for parts, split, name in placed]
    if not entries:
        raise ArchiveError(
            "no_pictures",
            "No picture of the archive lies in a class folder; pack one folder per class with its pictures "
            "inside.",
        )
    return entries, warnings


# --- layout ---


def _layout(paths: list[tuple[str, ...]], warnings: Warnings) -> list[tuple[tuple[str, ...], Split, str]]:
    """The split and the class of each path; paths without one are left out, with a warning."""
    root = 0
    loose: list[str] = []
    while True:
        loose += [_shown(path) for path in paths if len(path) == root + 1]
        paths = [path for path in paths if len(path) > root + 1]
        tops = {path[root] for path in paths}
        deep = {path[root] for path in paths if len(path) > root + 2}
        known = {top for top in tops if top.casefold() in TRAIN | TEST | VALIDATION}
        if len(tops) != 1 or not deep or known:
            break
        warnings.append(
            {
                "code": "extra_root_folder",
                "detail": f"The folder {_short(tops.pop())!r} holds everything else and was passed over.",
            }
        )
        root += 1

    train = {top for top in known & deep if top.casefold() in TRAIN}
    test = {top for top in known & deep if top.casefold() in TEST}
    validation = {top for top in known & deep if top.casefold() in VALIDATION}
    placed: list[tuple[tuple[str, ...], Split, str]] = []
    # Only train/ and test/ side by side, or alone, are splits: a class may be called "train" too.
    if train | test | validation and (tops == known or (train and test | validation)):
        odd = sorted(tops - known)
        if odd:
            raise ArchiveError(
                "unclear_layout",
                f"Beside {name_list(sorted(known))} the archive has pictures in {name_list(odd)}; put every "
                "class folder into train or test.",
            )
        if validation and not test:
            test = validation
            warnings.append(
                {
                    "code": "validation_is_test",
                    "detail": f"No test folder: {name_list(sorted(validation))} measures the result.",
                }
            )
        passed: list[str] = []
        for path in paths:
            top = path[root]
            if len(path) == root + 2:
                loose.append(_shown(path))
            elif top in train:
                placed.append((path, "train", path[root + 1]))
            elif top in test:
                placed.append((path, "test", path[root + 1]))
            else:
                passed.append(_shown(path))
        warn(
            warnings,
            "validation_passed_over",
            "There is a test folder, so {n} pictures of the validation folder were passed over: {names}",
            passed,
        )
        depth = root + 3
    else:
        placed = [(path, "train", path[root]) for path in paths]
        depth = root + 2
    warn(
        warnings,
        "pictures_without_class",
        "{n} pictures lie in no class folder and were passed over: {names}",
        loose,
    )
    warn(
        warnings,
        "nested_folders",
        "{n} pictures lie deeper than their class folder and count to it: {names}",
        [_shown(path) for path, _, _ in placed if len(path) > depth],
    )
    return placed


def _safe_parts(name: str) -> tuple[str, ...]:
    """The components of an entry's name, NFC. Raises ArchiveError where it points outside."""
    if len(name) > MAX_NAME:
        raise _broken(f"the name {_short(name)!r} is too long")
    parts = tuple(part for part in unicodedata.normalize("NFC", name).split("/") if part not in {"", "."})
    if len(parts) > MAX_DEPTH:
        raise _broken(f"the entry {_short(name)!r} lies more than {MAX_DEPTH} folders deep")
    if name.startswith("/") or "\\" in name or ".." in parts or (parts and re.match("[A-Za-z]:", parts[0])):
        raise ArchiveError(
            "unsafe_path",
            f"The archive's entry {_short(name)!r} is not a plain path inside the archive (it has '..', a "
            "leading '/', a drive letter or a backslash); pack it anew with relative paths and '/'.",
        )
    return parts


# --- entries ---


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Member(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def is_folder(self) -> bool: ...
    def open(self) -> IO[bytes]: ...


@dataclass(frozen=True)
class _ZipMember:
    name: str
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    def open(self) -> IO[bytes]:
        return self.archive.open(self.info)


@dataclass(frozen=True)
class _TarMember:
    archive: tarfile.TarFile
    info: tarfile.TarInfo

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def is_folder(self) -> bool:
        return self.info.isdir()

    def open(self) -> IO[bytes]:
        source = self.archive.extractfile(self.info)
        assert source is not None  # only asked of regular files
        return source


def _members(file: BinaryIO, limits: ArchiveLimits) -> Iterator[_Member]:
    file.seek(0)
    start = file.read(512)
    file.seek(0)
    if start[:4] in {b"PK\3\4", b"PK\5\6"}:
        yield from _zip_members(_Watched(file, limits.max_entries), limits)
    elif start[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
            yield from _tar_members(unzipped, limits)
    elif _is_tar(start):
        yield from _tar_members(file, limits)
    else:
        raise ArchiveError(
            "not_an_archive", "The file is not a .zip, .tar or .tar.gz by its content; pack it as one."
        )


def _zip_members(file: "_Watched", limits: ArchiveLimits) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        infos: list[zipfile.ZipInfo] = archive.infolist()
        if len(infos) > limits.max_entries:
            raise _too_many_entries(limits.max_entries)
        if sum(info.file_size for info in infos) > limits.max_bytes:
            raise _too_large(limits.max_bytes)
        for info in infos:
            name = _zip_name(info)
            if info.flag_bits & 0x1:
                raise ArchiveError(
                    "encrypted_archive", "The archive is protected by a password; pack it without one."
                )
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _special(name)
            # The others unpack a whole block at once, which no byte limit can stop in time.
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ArchiveError(
                    "unsupported_compression",
                    f"The archive's entry {_short(name)!r} is packed by a method other than Deflate; pack it "
                    "as a plain .zip.",
                )
        # Python checks this from 3.11.8 on: entries that share their bytes make a bomb.
        placed = sorted(infos, key=lambda info: info.header_offset)
        for info, following in pairwise(placed):
            if info.header_offset + 30 + info.compress_size > following.header_offset:
                raise _broken(f"the entry {_short(_zip_name(info))!r} overlaps the next one")
        for info in infos:
            yield _ZipMember(_zip_name(info), archive, info)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Without the UTF-8 flag a name is in code page 437 by the book, and in UTF-8 when a Mac packed it."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        try:
            return name.encode("cp437").decode()
        except UnicodeError:
            pass
    return name


def _tar_members(file: _Readable, limits: ArchiveLimits) -> Iterator[_Member]:
    # What isn't kept is unpacked too; headers take some room beside the pictures.
    stream = _Forward(file, limits)
    entries = 0
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        while (info := stream.next_header(archive)) is not None:
            archive.members = []  # it would keep them all
            entries += 1
            if entries > limits.max_entries:
                raise _too_many_entries(limits.max_entries)
            if not (info.isfile() or info.isdir()):
                raise _special(info.name)
            yield _TarMember(archive, info)
    # tarfile takes a broken header, and the lack of any, for the end of the archive.
    if stream.last != bytes(512):
        raise _broken("it ends without its end mark, so entries may be missing")
    while rest := stream.read(CHUNK):  # to the checksum of the gzip
        if rest.count(0) != len(rest):
            raise _broken("it goes on after its end mark")


def _is_tar(start: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return start == bytes(512)  # an empty one
    return True


class _Forward:
    """A stream for tarfile that goes forward only and counts what it gives.

    tarfile reads an extended header in one piece, of whatever size it claims, and searches it with a
    pattern that is quadratic in a run of digits (CVE-2024-6232), so headers have limits of their own.
    """

    def __init__(self, file: _Readable, limits: ArchiveLimits) -> None:
        self.file = file
        self.limits = limits
        self.header_bytes = 0
        self.in_header = True
        self.position = 0
        self.last = b""

    def next_header(self, archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        self.in_header = True
        info = archive.next()
        self.in_header = False
        return info

    def read(self, size: int) -> bytes:
        if not 0 <= size <= CHUNK:
            raise _broken("it has a header of unusual size")
        data = self._take(size)
        if self.in_header:
            self.header_bytes += len(data)
            if self.header_bytes > MAX_TAR_HEADER * self.limits.max_entries:
                raise _too_many_entries(self.limits.max_entries)
            if size > tarfile.BLOCKSIZE and re.search(rb"\d{40}", data):
                raise _broken("it has an unusual header")
        if size != 1:  # tarfile looks at single bytes to see whether there are more
            self.last = data
        return data

    def _take(self, size: int) -> bytes:
        data = self.file.read(size)
        self.position += len(data)
        if self.position > self.limits.max_bytes + MAX_TAR_HEADER * self.limits.max_entries:
            raise _too_large(self.limits.max_bytes)
        return data

    def seek(self, position: int) -> int:
        if position < self.position:
            raise _broken("its entries point backwards")
        while self.position < position and self._take(min(CHUNK, position - self.position)):
            pass
        return self.position

    def tell(self) -> int:
        return self.position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class _Watched:
    """A file for zipfile, which reads the whole directory at once: refuses one with too many entries
    before it becomes objects."""

    def __init__(self, file: BinaryIO, max_entries: int) -> None:
        self.file = file
        self.max_entries = max_entries
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise _too_many_entries(self.max_entries)
        data = self.file.read(size)
        if data.count(b"PK\1\2") > self.max_entries:
            raise _too_many_entries(self.max_entries)
        return data

    def seekable(self) -> bool:
        return True


class _Budget:
    """How many unpacked bytes are left, those of damaged entries included."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.left = max_bytes

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _too_large(self.max_bytes)


def _copy(start: bytes, source: IO[bytes], path: Path, max_bytes: int, budget: _Budget) -> BadPicture | None:
    size = 0
    chunk = start or source.read(CHUNK)
    with path.open("wb") as target:
        while chunk:
            budget.take(len(chunk))
            size += len(chunk)
            if size > max_bytes:
                return BadPicture(
                    "picture_too_large",
                    f"The file unpacks to more than {max_bytes:,} bytes, which is the most that is allowed. "
                    "Save it smaller or as JPEG.",
                )
            target.write(chunk)
            chunk = source.read(CHUNK)
    return None


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _begins_like_a_picture(start: bytes) -> bool:
    return start.startswith(PICTURE_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


# --- words ---


def _broken(reason: str) -> ArchiveError:
    return ArchiveError("broken_archive", f"The archive is damaged or cut short: {reason}. Pack it anew.")


def _too_large(max_bytes: int) -> ArchiveError:
    return ArchiveError(
        "archive_too_large",
        f"The archive unpacks to more than {max_bytes:,} bytes; send fewer or smaller pictures.",
        413,
    )


def _too_many_entries(max_entries: int) -> ArchiveError:
    return ArchiveError(
        "archive_too_large", f"The archive has more than {max_entries:,} entries; send fewer.", 413
    )


def _special(name: str) -> ArchiveError:
    return ArchiveError(
        "symlink_in_archive",
        f"The archive's entry {_short(name)!r} is a link or a device, not a file; pack the files themselves.",
    )


def _reason(error: Exception) -> str:
    # repr, cut: these messages may quote names out of the archive
    return repr(str(error))[1:-1][:100] or "unreadable"


def _short(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:40]}…{name[-39:]}"


def _shown(parts: tuple[str, ...]) -> str:
    return "/".join(parts)


def name_list(names: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(_short(name)) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def warn(warnings: Warnings, code: str, detail: str, names: list[str]) -> None:
    """One warning for any number of names. `detail` holds {n} and {names}."""
    if names:
        text = detail.replace("{n}", f"{len(names):,}").replace("{names}", name_list(names))
        warnings.append({"code": code, "detail": text + "."})
