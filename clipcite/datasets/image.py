"""One image to be sent: a file, bytes, a PIL image or an array of pixels. Read when it is sent."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from clipcite.client.errors import InvalidImages
from clipcite.datasets.heic import HEIC_ENDINGS, jpeg_of_heic

CHUNK = 256 * 1024
IMAGE_ENDINGS = HEIC_ENDINGS | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"
}  # fmt: skip


@runtime_checkable
class PilImage(Protocol):
    """What we need of a `PIL.Image.Image`."""

    def save(self, fp: Any, format: str | None = None) -> None: ...


@runtime_checkable
class PixelArray(Protocol):
    """What we need of a numpy array: uint8, [H, W], [H, W, 3] or [H, W, 4]."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    def tobytes(self) -> bytes: ...


ImageLike = str | os.PathLike[str] | bytes | PilImage | PixelArray


@dataclass(frozen=True)
class ImageFile:
    name: str
    """A file name, for people and for error messages."""
    chunks: Callable[[], Iterator[bytes]]
    """Its bytes, from the beginning at each call: an upload may be sent twice."""
    size: int | None = None
    """In bytes; None if it is known only when it is read."""
    path: Path | None = None

    @classmethod
    def of_bytes(cls, name: str, data: bytes) -> "ImageFile":
        return cls(name, lambda: iter([data]), len(data))

    @classmethod
    def of_file(cls, path: Path) -> "ImageFile":
        """Raises InvalidImages: no such file, or a HEIC image that cannot be read here."""
        if not path.is_file():
            raise InvalidImages(f"There is no file {path}.")
        if path.suffix.lower() in HEIC_ENDINGS:
            convert = jpeg_of_heic()
            return cls(f"{path.stem}.jpg", lambda: iter([convert(path)]), None, path)
        return cls(path.name, lambda: _file_chunks(path), path.stat().st_size, path)


def as_image(given: ImageLike, name: str) -> ImageFile:
    """`given` as an image; `name`, without ending, is for what has no file name of its own.

    Raises:
        InvalidImages: a file that is not there, an array that is no image, or something else.
    """
    if isinstance(given, str | os.PathLike):
        return ImageFile.of_file(Path(given))
    if isinstance(given, bytes | bytearray | memoryview):
        return ImageFile.of_bytes(name, bytes(given))
    if isinstance(given, PixelArray):
        return ImageFile.of_bytes(f"{name}.png", png_of_array(given))
    if isinstance(given, PilImage):
        buffer = io.BytesIO()
        given.save(buffer, format="PNG")
        return ImageFile.of_bytes(f"{name}.png", buffer.getvalue())
    raise InvalidImages(
        f"An image is a path, bytes, a PIL image or a uint8 array [H, W, 3], not {type(given).__name__}."
    )


def png_of_array(array: PixelArray) -> bytes:
    """A PNG of uint8 pixels [H, W], [H, W, 3] or [H, W, 4]. Raises InvalidImages for another array."""
    shape: Sequence[int] = tuple(array.shape)
    colour = {2: 0, 3: {3: 2, 4: 6}.get(shape[-1]) if len(shape) == 3 else None}.get(len(shape))
    if str(array.dtype) != "uint8" or colour is None or 0 in shape:
        raise InvalidImages(
            f"An array must be uint8 of [H, W], [H, W, 3] or [H, W, 4], not {array.dtype} of {list(shape)}. "
            "Values from 0 to 1 become pixels with (255 * array).round().astype('uint8')."
        )
    height, width = shape[:2]
    pixels = array.tobytes()
    row = len(pixels) // height
    rows = b"".join(b"\0" + pixels[i : i + row] for i in range(0, len(pixels), row))  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
