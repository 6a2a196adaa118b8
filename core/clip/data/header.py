"""Header of an image file: format, size, and a check of the cost of decoding.

The check reads only the dimensions, and the number of JPEG scans or WebP frames. The decoder process limits
memory and time (`core.clip.data.decoder`).
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import AvifImagePlugin, Image, ImageFile, TiffImagePlugin, WebPImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from core.clip.errors import BadImage

MIN_SIDE = 4
"""Minimum side (pixels). Smaller images are tracking pixels or broken exports."""
MAX_DEEP_PIXELS = 10_000_000
"""Maximum number of pixels of 32-bit integers or floats. They take four times the memory and time."""
MAX_SCANS = 100
"""Maximum number of JPEG scans. libjpeg writes 1, 6 or 10 scans, in CMYK 18."""
MAX_FRAMES = 10_000
"""Maximum number of WebP frames. The decoder lists all of them."""
COEFFICIENT_BYTES = 8
"""Memory per pixel of a JPEG in several scans (bytes): 2 for each of up to 4 components."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits on file size and pixels, checked before decoding."""

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000


@dataclass(frozen=True)
class Header:
    """The header of an image file within the limits."""

    image: ImageFile.ImageFile
    kind: str
    pixels: int
    """Number of pixels, of the image or of a larger tile."""
    extra_bytes: int
    """Memory that decoding takes in addition to pixels, estimated from the header (bytes)."""


def read_header(source: bytes | Path, limits: ImageLimits) -> Header:
    """Read and check the header of a file.

    Raises:
        BadImage: the file is not an image, or exceeds a limit (codes: `core.clip.data.images.open_image`).
        OSError: the path can't be read.
    """
    data = read_file(source, limits.max_bytes)
    image, kind = _open(data, limits.max_pixels)
    pixels = _check_pixels(image, limits.max_pixels)
    extra = 2 * len(data)
    if isinstance(image, JpegImageFile):
        start = image.fp.tell() if image.fp else 0  # behind the marker of the first scan
        end = data.find(b"\xff\xd9", start)  # further images and videos may follow
        scans = 1 + data.count(b"\xff\xda", start, end if end > 0 else len(data))
        if scans > MAX_SCANS:
            raise _too_costly(f"The JPEG file has {scans:,} scans", "Save it as baseline JPEG.")
        extra += COEFFICIENT_BYTES * pixels * (scans > 1)
    return Header(image, kind, pixels, extra)


def read_file(source: bytes | Path, max_bytes: int) -> bytes:
    """Return the content of a file. Raise BadImage if it is empty or too large."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if not size:
        raise BadImage("empty_file", "The file is empty (0 bytes). Upload it again.")
    if size > max_bytes:
        raise BadImage(
            "image_too_large",
            f"The file is larger than {max_bytes:,} bytes. Save the image with fewer pixels or as JPEG.",
        )
    return source if isinstance(source, bytes) else source.read_bytes()


# Importing a plugin registers it in Image.OPEN. "JPEG" also reads the first image of an MPO file, which
# many cameras name .jpg. BMP is last, because its signature is only two letters, which a text may start with.
Image.preinit()
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # one core per image
with suppress(ImportError):
    import pillow_heif  # the extra `heic`

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)
_FORMATS = (
    "JPEG",
    "PNG",
    WebPImagePlugin.WebPImageFile.format,
    "GIF",
    TiffImagePlugin.TiffImageFile.format,
    *(["HEIF"] if "HEIF" in Image.OPEN else []),
    AvifImagePlugin.AvifImageFile.format,
    "BMP",
)


def _open(data: bytes, max_pixels: int) -> tuple[ImageFile.ImageFile, str]:
    # Image.open compares every image with a process-wide limit, and warns at 89 million pixels. Here the
    # caller sets the limit.
    for kind in _FORMATS:
        factory, accepts = Image.OPEN[kind]
        if accepts is None or accepts(data[:16]) is not True:
            continue
        if kind == "HEIF" and b"avi" in data[8:64]:  # `mif1`, a brand of both
            continue
        try:
            _check_start(kind, data, max_pixels)
            # Pillow's own choice would read a file of several JPEGs as another format.
            return (JpegImageFile if kind == "JPEG" else factory)(BytesIO(data), ""), kind
        except (MemoryError, BadImage):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise BadImage("too_many_pixels", "The image has too many pixels. Scale it down.") from error
        except Exception as error:
            if kind == "BMP":
                break
            raise damaged(kind) from error
    raise BadImage(
        "not_an_image",
        "The file is not an image of a supported format. Use JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF, "
        "or HEIC if pillow-heif is installed beside the service; the file name does not matter.",
    )


def _check_start(kind: str, data: bytes, max_pixels: int) -> None:
    """Check files that take memory or time even to open: GIF and WebP allocate their canvas.

    Raises:
        BadImage: `too_many_pixels` or `image_too_costly`.
        struct.error: the header is truncated.
    """
    if kind == "GIF":
        width, height = struct.unpack_from("<HH", data, 6)
        _check_size(width, height, max_pixels)
    elif kind == "WEBP":
        if data[12:16] == b"VP8X":
            width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        elif data[12:16] == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        else:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        _check_size(width, height, max_pixels)
        if data.count(b"ANMF") > MAX_FRAMES:
            raise _too_costly(
                f"The WebP file has more than {MAX_FRAMES:,} frames", "Send its first frame alone."
            )


def _too_costly(reason: str, remedy: str) -> BadImage:
    return BadImage("image_too_costly", f"{reason}, which takes too long to read. {remedy}")


def damaged(kind: str) -> BadImage:
    """Return the error `truncated_image`."""
    return BadImage(
        "truncated_image",
        f"The {kind} file is damaged or truncated. Upload it again, or export it again from its source.",
    )


def _check_pixels(image: ImageFile.ImageFile, max_pixels: int) -> int:
    """Return the number of pixels of the image, or of a larger tile. Raise BadImage if it is out of range."""
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise BadImage(
            "image_too_small",
            f"The image has {width:,} x {height:,} pixels; each side must have at least {MIN_SIDE}. Use the "
            "original image.",
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # A decoder allocates whole tiles, and a tile may be far larger than the image.
        tile_width, tile_height = (image.tag_v2.get(tag, 0) for tag in (322, 323))
        if isinstance(tile_width, int) and isinstance(tile_height, int):
            width, height = max(width, tile_width), max(height, tile_height)
    _check_size(width, height, max_pixels)
    if image.mode in {"I", "F"} and width * height > MAX_DEEP_PIXELS:
        raise BadImage(
            "too_many_pixels",
            f"The image has {width:,} x {height:,} pixels of 32 bits; at most {MAX_DEEP_PIXELS:,} are "
            "allowed. Save it with 8 or 16 bits per channel, or scale it down.",
        )
    return width * height


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(
            "too_many_pixels",
            f"The image has {width:,} x {height:,} pixels; at most {max_pixels:,} in total are allowed. "
            "Scale it down.",
        )
