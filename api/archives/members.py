"""Iteration over the files of a .zip. The limits do not trust its headers."""

import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO

from clipcite.types.folders import short
from core.errors import CodedError

CHUNK = 65_536
MAX_DIRECTORY_BYTES = 8_000_000
MAX_NAME_BYTES = 768  # per entry
MAX_EXTRA_BYTES = 1_024  # per entry, because zipfile needs quadratic time for them
MEAN_NAME_BYTES = 200  # over all entries, because each byte may take four in memory
LOCAL_HEADER = 30
# gzip, bzip2 and xz, the compressions of tar files
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")


class ArchiveError(CodedError):
    """The whole archive is rejected."""

    def __init__(self, code: str, detail: str, status: int = 422) -> None:
        super().__init__(code, detail)
        self.status = status


def broken(reason: str) -> ArchiveError:
    return ArchiveError("broken_archive", f"The archive is damaged or cut short: {reason}. Pack it again.")


def too_large(max_bytes: int) -> ArchiveError:
    return ArchiveError(
        "archive_too_large",
        f"The archive unpacks to more than {max_bytes:,} bytes. Send fewer or smaller images.",
        413,
    )


def reason(error: Exception) -> str:
    # Escape and shorten, because these messages may quote names from the archive.
    return repr(str(error))[1:-1][:100] or "unreadable"


@dataclass(frozen=True)
class ArchiveLimits:
    max_images: int = 5_000
    max_image_bytes: int = 20_000_000
    max_bytes: int = 1_000_000_000  # of unpacked data, not as declared in the archive
    max_entries: int = 20_000  # files, folders and others


@dataclass(frozen=True)
class Member:
    name: str
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    def open(self) -> IO[bytes]:
        return self.archive.open(self.info)


def members(file: BinaryIO, limits: ArchiveLimits) -> Iterator[Member]:
    """Yield the entries of a zip.

    Raises:
        ArchiveError: the file is not a zip, or breaks a limit.
    """
    file.seek(0)
    start = file.read(512)
    if start[:4] not in {b"PK\3\4", b"PK\5\6"}:
        raise _not_a_zip(start)
    directory = _Directory(file, limits)
    with zipfile.ZipFile(directory) as archive:
        directory.checked = True
        infos: list[zipfile.ZipInfo] = archive.infolist()
        if sum(info.file_size for info in infos) > limits.max_bytes:
            raise too_large(limits.max_bytes)
        for info in infos:
            name = _zip_name(info)
            if info.flag_bits & 0x1:
                raise ArchiveError(
                    "encrypted_archive", "The archive is protected by a password. Pack it without one."
                )
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise ArchiveError(
                    "symlink_in_archive",
                    f"The archive's entry {short(name)!r} is a link or a device. Pack the files themselves.",
                )
            # Other methods unpack whole blocks at once, so a byte limit would come too late.
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ArchiveError(
                    "unsupported_compression",
                    f"The archive's entry {short(name)!r} uses a compression other than Deflate. Pack a "
                    "plain .zip.",
                )
        _refuse_overlaps(file, infos, archive.start_dir)
        for info in infos:
            yield Member(_zip_name(info), archive, info)


def _not_a_zip(start: bytes) -> ArchiveError:
    if start.startswith(COMPRESSED) or start[257:262] == b"ustar":
        return ArchiveError(
            "not_an_archive",
            "The file is a tar or compressed like a tar. The service accepts only .zip. Unpack the file and "
            "run `zip -r images.zip FOLDER`.",
        )
    return ArchiveError("not_an_archive", "The content of the file is not a .zip. Pack the images as a .zip.")


def _directory_too_large(size: int) -> ArchiveError:
    detail = f"The directory of the archive takes {size:,} bytes. Send fewer files with shorter names."
    return ArchiveError("archive_too_large", detail, 413)


def _refuse_overlaps(file: BinaryIO, infos: list[zipfile.ZipInfo], directory_start: int) -> None:
    """Reject archives whose entries share bytes (zip bombs of data or headers)."""
    placed = sorted(infos, key=lambda info: info.header_offset)
    if not placed:
        return
    if not 0 <= placed[0].header_offset <= placed[-1].header_offset < directory_start:
        raise broken("an entry points outside the file")
    ends = [info.header_offset for info in placed[1:]] + [directory_start]
    for info, end in zip(placed, ends, strict=True):
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
        size = LOCAL_HEADER + info.compress_size
        if header[:4] == b"PK\3\4" and len(header) == LOCAL_HEADER:
            size += sum(struct.unpack_from("<HH", header, 26))  # name and extra fields
        if info.header_offset + size > end:
            raise broken(f"the entry {short(_zip_name(info))!r} overlaps the next one")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name, decoded as UTF-8 if possible.

    Without the UTF-8 flag the standard prescribes code page 437, but macOS writes UTF-8.
    """
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        try:
            return name.encode("cp437").decode()
        except UnicodeError:
            pass
    return name


class _Directory:
    """File wrapper that checks the zip directory before zipfile creates an object per entry.

    Until `checked` is set, a read that contains a directory beyond the limits is rejected.
    """

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self.file = file
        self.limits = limits
        self.checked = False
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if self.checked:
            return self.file.read(size)
        if size > MAX_DIRECTORY_BYTES:
            raise _directory_too_large(size)
        data = self.file.read(size)
        self._check(data)
        return data

    def seekable(self) -> bool:
        return True

    def _check(self, data: bytes) -> None:
        """Raise ArchiveError if `data` is a directory beyond the limits. zipfile checks the rest."""
        at = entries = name_bytes = 0
        while data.startswith(b"PK\1\2", at) and at + 46 <= len(data):
            name, extra, comment = struct.unpack_from("<HHH", data, at + 28)
            if name > MAX_NAME_BYTES or extra > MAX_EXTRA_BYTES:
                raise broken(
                    f"an entry has a name of more than {MAX_NAME_BYTES:,} bytes, or more than "
                    f"{MAX_EXTRA_BYTES:,} bytes of extra fields"
                )
            if b"\0" in data[at + 46 : at + 46 + name]:
                raise broken("the name of an entry contains a NUL")
            at += 46 + name + extra + comment
            entries += 1
            name_bytes += name
            if entries > self.limits.max_entries:
                detail = f"The archive has more than {self.limits.max_entries:,} entries. Send fewer files."
                raise ArchiveError("archive_too_large", detail, 413)
        if name_bytes > MEAN_NAME_BYTES * self.limits.max_entries:
            raise _directory_too_large(len(data))
