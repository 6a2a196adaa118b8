"""Conversion of HEIC images to JPEG, which every service reads."""

import io
from collections.abc import Callable
from pathlib import Path

from clipcite.client.errors import InvalidImages

HEIC_ENDINGS = frozenset({".heic", ".heif"})
QUALITY = 95
MAX_BYTES = 50_000_000
MAX_PIXELS = 100_000_000
"""Maximum pixels: twice those of the largest phone images."""


def jpeg_of_heic() -> Callable[[Path], bytes]:
    """Return a function that converts a HEIC file to JPEG.

    Raises:
        InvalidImages: pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise InvalidImages(
            "HEIC images need another package: pip install pillow-heif. Or export the images as JPEG."
        ) from error

    def convert(path: Path) -> bytes:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(path, f"{size:,} bytes; the maximum is {MAX_BYTES:,}")
        try:
            heic = pillow_heif.open_heif(io.BytesIO(path.read_bytes()), convert_hdr_to_8bit=True)
            if not len(heic):
                raise ValueError("no image that can be decoded")
            width, height = heic.size
            # The decoder applies the rotation in the file, so the image is upright.
            image = heic.to_pillow().convert("RGB") if width * height <= MAX_PIXELS else None
        except Exception as error:  # libheif's errors come as many types
            raise InvalidImages(
                f"{path} is not a readable HEIC image ({str(error).strip()}). Export it as JPEG."
            ) from error
        if image is None:
            raise _too_large(path, f"{width:,} x {height:,} pixels; the maximum is {MAX_PIXELS:,}")
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    return convert


def _too_large(path: Path, has: str) -> InvalidImages:
    return InvalidImages(f"{path} has {has}. Export it as a smaller JPEG.")
