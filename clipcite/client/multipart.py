"""Streamed request bodies. A retry reads a body again from the beginning."""

import json
import re
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipcite.datasets.image import ImageFile

MAX_ENTRIES = 65_535
MAX_ENTRY_BYTES = 2_000_000_000
"""Limits of a plain zip. Larger zips have zip64 headers, and their length is not computed in advance."""
OnUpload = Callable[[int, int | None], None]
"""Called with the bytes sent and the total number of bytes, None if unknown."""


@dataclass(frozen=True)
class FilePart:
    """A file in a form."""

    field: str
    image: ImageFile
    media_type: str = "application/octet-stream"


@dataclass(frozen=True)
class Multipart:
    """`multipart/form-data` (RFC 7578)."""

    fields: Sequence[tuple[str, str]]
    parts: Sequence[FilePart] = ()
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def size(self) -> int | None:
        """Size in bytes; None if the size of a part is unknown."""
        sizes = [part.image.size for part in self.parts]
        heads = sum(len(self._head(part)) + 2 for part in self.parts)
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            return None
        return len(self._plain()) + heads + sum(known) + len(self._end())

    def chunks(self) -> Iterator[bytes]:
        yield self._plain()
        for part in self.parts:
            yield self._head(part)
            yield from part.image.chunks()
            yield b"\r\n"
        yield self._end()

    def _plain(self) -> bytes:
        return b"".join(
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in self.fields
        )

    def _head(self, part: FilePart) -> bytes:
        name = re.sub(r'["\r\n]', lambda match: f"%{ord(match[0]):02X}", part.image.name)
        return (
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{part.field}"; filename="{name}"\r\n'
            f"Content-Type: {part.media_type}\r\n\r\n"
        ).encode(errors="replace")

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


@dataclass(frozen=True)
class JsonBody:
    """A JSON object as a request body."""

    value: Mapping[str, Any]
    content_type: str = "application/json"

    @property
    def size(self) -> int:
        return len(self._text())

    def chunks(self) -> Iterator[bytes]:
        yield self._text()

    def _text(self) -> bytes:
        return json.dumps(self.value).encode()


def zip_of(images: Sequence[tuple[str, ImageFile]]) -> ImageFile:
    """Return a zip that is written while it is read, so that it takes neither memory nor disk space.

    Entries are stored, since images are already compressed. The size is known if all sizes are known.
    """
    return ImageFile("images.zip", lambda: _zip_chunks(images), _zip_size(images))


def _zip_size(images: Sequence[tuple[str, ImageFile]]) -> int | None:
    total = 22  # end of central directory
    for name, image in images:
        if image.size is None or image.size > MAX_ENTRY_BYTES:
            return None
        # Local header, data descriptor and central directory entry.
        total += 30 + 16 + 46 + 2 * len(name.encode()) + image.size
    return total if len(images) < MAX_ENTRIES and total < MAX_ENTRY_BYTES else None


class _Outlet:
    """A write-only file that cannot seek, emptied by `take`."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data


def _zip_chunks(images: Sequence[tuple[str, ImageFile]]) -> Iterator[bytes]:
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:
        for name, image in images:
            large = (image.size or 0) > MAX_ENTRY_BYTES
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=large) as entry:
                for chunk in image.chunks():
                    entry.write(chunk)
                    yield outlet.take()
    yield outlet.take()
