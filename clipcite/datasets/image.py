"""Images to upload: files, bytes, PIL images or arrays of pixels, read while they are sent."""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeGuard, runtime_checkable

from clipcite.errors import InvalidImages

IMAGE_ENDINGS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".avif", ".heic", ".heif",
})  # fmt: skip


@runtime_checkable
class PilImage(Protocol):
    """Protocol of `PIL.Image.Image`."""

    def save(self, fp: Any, format: str | None = None) -> None: ...


@runtime_checkable
class PixelArray(Protocol):
    """Protocol of a numpy array: uint8 [H, W], [H, W, 3] or [H, W, 4]."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...


ImageLike = str | os.PathLike[str] | bytes | PilImage | PixelArray


@dataclass(frozen=True)
class ImageFile:
    """A named file."""

    name: str
    """File name, for error messages."""
    open: Callable[[], BinaryIO]
    """Function that opens the file. It raises InvalidImages if that fails."""
    path: Path | None = None

    @classmethod
    def of_bytes(cls, name: str, data: bytes) -> "ImageFile":
        return cls(name, partial(io.BytesIO, data))

    @classmethod
    def of_file(cls, path: Path) -> "ImageFile":
        """Refer to a file.

        Raises:
            InvalidImages: no such file, or an unreadable file.
        """
        with reading(path):
            if not path.is_file():
                raise InvalidImages(f"The file {path} does not exist. Check the path.")
        return cls(printable(path.name), partial(_open, path), path)

    def read(self) -> bytes:
        """Return the whole content."""
        with self.open() as file, reading(self.path or Path(self.name)):
            return file.read()


def as_image(image: ImageLike, name: str) -> ImageFile:
    """Convert an image to a file.

    Args:
        image: a path, bytes, a PIL image or a uint8 array.
        name: name without suffix, for an image that has no file name.

    Raises:
        InvalidImages: a missing file, an array or PIL image that cannot be sent, or another object.
    """
    if isinstance(image, str | os.PathLike):
        return ImageFile.of_file(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return ImageFile.of_bytes(name, bytes(image))
    if isinstance(image, PixelArray):
        image = _pil_of_array(image)
    if isinstance(image, PilImage):
        for kind in ("PNG", "TIFF"):  # TIFF for CMYK, YCbCr, LAB and numbers of 32 bits
            buffer = io.BytesIO()
            try:
                image.save(buffer, format=kind)
            except OSError as error:
                problem = error
            else:
                return ImageFile.of_bytes(f"{name}.{kind.lower()}", buffer.getvalue())
        raise InvalidImages(f"A PIL image can't be sent ({problem}). Convert it to RGB.") from problem
    raise InvalidImages(
        f"An image must be a path, bytes, a PIL image or a uint8 array [H, W, 3], not {type(image).__name__}."
    )


def is_one_image(value: object) -> TypeGuard[ImageLike]:
    """Return True for a single image, also where a list is expected."""
    if isinstance(value, PixelArray):
        shape = tuple(value.shape)
        return len(shape) == 2 or (len(shape) == 3 and shape[-1] in {3, 4})
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | PilImage)


def _pil_of_array(array: Any) -> PilImage:
    usable = str(array.dtype) == "uint8" and 0 not in tuple(array.shape) and is_one_image(array)
    if not usable:
        raise InvalidImages(
            f"An array must be uint8 [H, W], [H, W, 3] or [H, W, 4], not {array.dtype} {list(array.shape)}. "
            "Convert values from 0 to 1 with (255 * array).round().astype('uint8')."
        )
    try:
        from PIL import Image
    except ImportError as error:
        raise InvalidImages("Arrays are sent with Pillow. Run: pip install pillow") from error
    return Image.fromarray(array)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise InvalidImages if this file or folder, or one below it, can't be read."""
    try:
        yield
    except OSError as error:
        raise InvalidImages(
            f"{error.filename or path} can't be read: {error.strerror}. Change its permissions, or "
            "leave it out."
        ) from error


def printable(name: str) -> str:
    """Return text for a terminal, with `?` in place of control characters and bytes that are not UTF-8."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "?", name)


def _open(path: Path) -> BinaryIO:
    with reading(path):
        return path.open("rb")
