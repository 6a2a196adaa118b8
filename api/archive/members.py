"""The files of a .zip, .tar or .tar.gz, one after the other, within limits that hold whatever it claims."""

import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, BinaryIO, Protocol

from api.archive.errors import ArchiveError, broken, short, special, too_large, too_many_entries

CHUNK = 65_536
MAX_DIRECTORY_BYTES = 16_000_000  # of a zip
MAX_TAR_HEADER = 4_096  # on average


@dataclass(frozen=True)
class ArchiveLimits:
    max_pictures: int = 5_000
    max_picture_bytes: int = 20_000_000
    max_bytes: int = 1_000_000_000  # unpacked, whatever the sizes in the archive claim
    max_entries: int = 20_000  # of any kind


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Member(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def is_folder(self) -> bool: ...
    def open(self) -> IO[bytes]: ...


@dataclass(frozen=True)
class ZipMember:
    name: str
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    def open(self) -> IO[bytes]:
        return self.archive.open(self.info)


@dataclass(frozen=True)
class TarMember:
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


def members(file: BinaryIO, limits: ArchiveLimits) -> Iterator[Member]:
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


def _zip_members(file: "_Watched", limits: ArchiveLimits) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        infos: list[zipfile.ZipInfo] = archive.infolist()
        if len(infos) > limits.max_entries:
            raise too_many_entries(limits.max_entries)
        if sum(info.file_size for info in infos) > limits.max_bytes:
            raise too_large(limits.max_bytes)
        for info in infos:
            name = _zip_name(info)
            if info.flag_bits & 0x1:
                raise ArchiveError(
                    "encrypted_archive", "The archive is protected by a password; pack it without one."
                )
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise special(name)
            # The others unpack a whole block at once, which no byte limit can stop in time.
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ArchiveError(
                    "unsupported_compression",
                    f"The archive's entry {short(name)!r} is packed by a method other than Deflate; pack it "
                    "as a plain .zip.",
                )
        # Python checks this from 3.11.8 on: entries that share their bytes make a bomb.
        placed = sorted(infos, key=lambda info: info.header_offset)
        for info, following in pairwise(placed):
            if info.header_offset + 30 + info.compress_size > following.header_offset:
                raise broken(f"the entry {short(_zip_name(info))!r} overlaps the next one")
        for info in infos:
            yield ZipMember(_zip_name(info), archive, info)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Without the UTF-8 flag a name is in code page 437 by the book, and in UTF-8 when a Mac packed it."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        try:
            return name.encode("cp437").decode()
        except UnicodeError:
            pass
    return name


def _tar_members(file: _Readable, limits: ArchiveLimits) -> Iterator[Member]:
    # What isn't kept is unpacked too; headers take some room beside the pictures.
    stream = _Forward(file, limits)
    entries = 0
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
        while (info := stream.next_header(archive)) is not None:
            archive.members = []  # it would keep them all
            entries += 1
            if entries > limits.max_entries:
                raise too_many_entries(limits.max_entries)
            if not (info.isfile() or info.isdir()):
                raise special(info.name)
            yield TarMember(archive, info)
    # tarfile takes a broken header, and the lack of any, for the end of the archive.
    if stream.last != bytes(512):
        raise broken("it ends without its end mark, so entries may be missing")
    while rest := stream.read(CHUNK):  # to the checksum of the gzip
        if rest.count(0) != len(rest):
            raise broken("it goes on after its end mark")


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
            raise broken("it has a header of unusual size")
        data = self._take(size)
        if self.in_header:
            self.header_bytes += len(data)
            if self.header_bytes > MAX_TAR_HEADER * self.limits.max_entries:
                raise too_many_entries(self.limits.max_entries)
            if size > tarfile.BLOCKSIZE and re.search(rb"\d{40}", data):
                raise broken("it has an unusual header")
        if size != 1:  # tarfile looks at single bytes to see whether there are more
            self.last = data
        return data

    def _take(self, size: int) -> bytes:
        data = self.file.read(size)
        self.position += len(data)
        if self.position > self.limits.max_bytes + MAX_TAR_HEADER * self.limits.max_entries:
            raise too_large(self.limits.max_bytes)
        return data

    def seek(self, position: int) -> int:
        if position < self.position:
            raise broken("its entries point backwards")
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
            raise too_many_entries(self.max_entries)
        data = self.file.read(size)
        if data.count(b"PK\1\2") > self.max_entries:
            raise too_many_entries(self.max_entries)
        return data

    def seekable(self) -> bool:
        return True
