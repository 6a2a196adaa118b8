"""Decoding of image files to upright RGB images, within limits on size and cost."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, WebPImagePlugin
from PIL.Image import Resampling

from core.clip.data.structure import (
    check_bmp,
    check_png,
    check_tiff,
    check_tiff_strips,
    check_webp,
    orientation,
    read_gif,
    read_jpeg,
)
from core.clip.errors import BadImage

MIN_SIDE = 4
"""Minimum side (pixels). Smaller images are tracking pixels or broken exports."""
MAX_ASPECT_RATIO = 16  # longer images are cropped at both ends when scaled down
MAX_DEEP_PIXELS = 10_000_000
"""Maximum number of 32-bit integer or float pixels, which take four times the memory and time."""
BAND_PIXELS = 1_000_000
KINDS = "JPEG, PNG, WebP, GIF, BMP or TIFF"


@dataclass(frozen=True)
class ImageLimits:
    """Limits on file size and pixels, checked before decoding."""

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000


def open_image(
    source: bytes | Path,
    limits: ImageLimits = ImageLimits(),
    *,
    shortest_side: int | None = None,
    grey: bool = False,
) -> Image.Image:
    """Decode the first frame of an image file: upright, RGB, 8 bits, transparency on white.

    JPEG, PNG, WebP, GIF, BMP and TIFF are detected by content. 16-bit greys are scaled to 8 bits, CMYK is
    converted. The result has no metadata, so the orientation can't be applied twice.

    Args:
        shortest_side: a larger image is scaled down (bicubic, antialiased) to this shorter side (pixels). Of
            an image longer than 16 times its shorter side only the middle is used. A smaller image keeps
            its size.
        grey: return one channel, scaled with a Hamming filter: half as wide, equally sharp, three times as
            fast.

    Raises:
        BadImage: `empty_file`, `image_too_large`, `not_an_image`, `image_too_small`, `too_many_pixels`,
            `image_too_costly` or `truncated_image`; the detail has the remedy.
        OSError: the path can't be read.
    """
    return read_header(source, limits, shortest_side=shortest_side, grey=grey).decode()


@dataclass(frozen=True)
class Undecoded:
    """An image file within the limits, not yet decoded. `decode` may be called once."""

    image: ImageFile.ImageFile
    kind: str
    shortest_side: int | None
    grey: bool
    peak_bytes: int
    """Upper bound of the memory for decoding (bytes), including the file."""

    def decode(self) -> Image.Image:
        """Decode the image as `open_image` does.

        Raises:
            BadImage: `truncated_image`.
        """
        image, side = self.image, self.shortest_side
        try:
            image.load()
            turn = _turn(image)
            opened = _to_grey(image) if self.grey else _to_rgb(image)
            if side is not None:
                opened = _scale_down(opened, side, Resampling.HAMMING if self.grey else Resampling.BICUBIC)
            if turn is not None:
                opened = opened.transpose(turn)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises a dozen types for damaged files
            raise _damaged(self.kind) from error
        if opened is image:
            opened = image.copy()  # a plain Image without a reference to the file's bytes
        opened.info = {}
        return opened


def read_header(
    source: bytes | Path,
    limits: ImageLimits = ImageLimits(),
    *,
    shortest_side: int | None = None,
    grey: bool = False,
) -> Undecoded:
    """Check a file and bound its decoding cost, within microseconds.

    Arguments and exceptions are those of `open_image`.
    """
    data = read_file(source, limits.max_bytes)
    image, kind, table_bytes = _open_header(data, limits.max_pixels)
    _check_pixels(image, limits.max_pixels)
    if shortest_side is not None:
        # The JPEG decoder can scale by powers of two; twice the target side is left for the bicubic filter.
        image.draft("L" if grey else None, (2 * shortest_side, 2 * shortest_side))
    try:
        peak = 2 * len(data) + table_bytes + _peak_bytes(image, kind)
    except (TypeError, ValueError) as error:  # tags of the wrong type
        raise _damaged(kind) from error
    return Undecoded(image, kind, shortest_side, grey, peak)


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
# many cameras name .jpg. BMP is last, because its signature is only two letters, which may start a text.
Image.preinit()
_FORMATS = (
    "JPEG",
    "PNG",
    WebPImagePlugin.WebPImageFile.format,
    "GIF",
    TiffImagePlugin.TiffImageFile.format,
    "BMP",
)


def _open_header(data: bytes, max_pixels: int) -> tuple[ImageFile.ImageFile, str, int]:
    """Read the header; return the image, its format, and the decoder's memory beside pixels (bytes)."""
    # Image.open first compares every image with a process-wide constant and warns at 89 million pixels.
    # Here the caller sets the limit.
    for kind in _FORMATS:
        factory, accepts = Image.OPEN[kind]
        if accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            return _open_kind(kind, factory, data, max_pixels)
        except (MemoryError, BadImage):
            raise
        except Image.DecompressionBombError as error:  # WebP allocates its canvas on opening
            raise BadImage("too_many_pixels", "The image has too many pixels. Scale it down.") from error
        except Exception as error:
            if kind == "BMP":
                break
            raise _damaged(kind) from error
    raise BadImage(
        "not_an_image",
        f"The file is not an image of a supported format. Use {KINDS}; the file name does not matter.",
    )


def _open_kind(
    kind: str, factory: Callable[..., ImageFile.ImageFile], data: bytes, max_pixels: int
) -> tuple[ImageFile.ImageFile, str, int]:
    if kind == "JPEG":
        jpeg = read_jpeg(data)
        image = factory(BytesIO(jpeg.data), "")
        image.info |= {"exif": jpeg.exif, "xmp": jpeg.xmp}
        return image, kind, jpeg.coefficient_bytes
    extra_bytes = 0
    if kind == "GIF":
        gif = read_gif(data)
        _check_size(gif.width, gif.height, max_pixels)  # Pillow allocates memory on opening
        data = gif.data
    elif kind == "PNG":
        check_png(data)
    elif kind == "BMP":
        extra_bytes = check_bmp(data)
    elif kind == "TIFF":
        check_tiff(data)
    elif kind == "WEBP":
        extra_bytes = check_webp(data)
    image = factory(BytesIO(data), "")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        check_tiff_strips(data, image.tag_v2)
    return image, kind, extra_bytes


def _damaged(kind: str) -> BadImage:
    return BadImage(
        "truncated_image",
        f"The {kind} file is damaged or truncated. Upload it again, or export it again from its source.",
    )


def _check_pixels(image: ImageFile.ImageFile, max_pixels: int) -> None:
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


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(
            "too_many_pixels",
            f"The image has {width:,} x {height:,} pixels; at most {max_pixels:,} in total are allowed. "
            "Scale it down.",
        )


def _peak_bytes(image: ImageFile.ImageFile, kind: str) -> int:
    """Return an upper bound of the memory for pixels and copies by conversions (bytes).

    Measured bytes per pixel at 40 million pixels: RGB 4.2, L 4.5, P 6 (9 with transparency), LA 12.7, RGBA
    8.8, CMYK 4.3, 16 bits 3.2, WebP 17. A TIFF adds its largest strip.
    """
    pixels, mode = image.width * image.height, image.mode
    if kind == "WEBP":
        return 18 * pixels  # two canvases, the frame and a copy in RGBA, then the image
    own = {"1": 1, "L": 1, "P": 1}.get(mode, 2 if mode.startswith("I;16") else 4)
    copies = 1 if mode == "RGB" else 5  # RGB, or RGBA before RGB
    if image.has_transparency_data:
        copies = 5 if mode == "RGBA" else 9  # RGBA, its alpha, RGB on white
    peak = (own + copies + 1) * pixels
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        width, rows = (tags.get(tag) for tag in (322, 323))
        bits = tags.get(258, (1,))
        if not width or not rows:
            width, rows = image.width, min(image.height, tags.get(278, image.height))
        if tags.get(274, 1) in {5, 6, 7, 8}:
            width, rows = max(image.size), max(image.size) if rows > 1 else 1
        peak += width * rows * max(4, max(bits) // 8 * tags.get(277, 1))
        if tags.get(274, 1) != 1:  # Pillow rotates a copy
            peak += own * pixels
    return peak


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_XMP_ORIENTATION = rb'tiff:Orientation(?:="|>)([0-9])'


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the image upright, if any; Pillow already rotates TIFF.

    A damaged EXIF block is ignored.
    """
    # Pillow's `getexif` reads every tag, and many tags may refer to the same bytes.
    info = image.info
    exif, xmp = info.get("exif"), info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    try:
        if exif is None and (profile := info.get("Raw profile type exif")):
            exif = bytes.fromhex("".join(profile.split("\n")[3:]))
        tag = orientation(exif) if exif else None
        if tag is None and (
            named := re.search(_XMP_ORIENTATION, xmp.encode() if isinstance(xmp, str) else xmp)
        ):
            tag = int(named[1])
    except ValueError:
        return None
    return None if tag is None else _TURNS.get(tag)


def _to_rgb(image: Image.Image) -> Image.Image:
    if _is_deep(image):
        return _deep_grey(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    on_white = Image.new("RGB", rgba.size, "white")
    on_white.paste(rgba, mask=rgba.getchannel("A"))
    return on_white


def _to_grey(image: Image.Image) -> Image.Image:
    if _is_deep(image):
        return _deep_grey(image)
    if image.mode == "L" and not image.has_transparency_data:
        return image
    return _to_rgb(image).convert("L")


def _is_deep(image: Image.Image) -> bool:
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Convert one channel of more than 8 bits to 8 bits, where Pillow would clip.

    The conversion runs in bands of rows, because numpy works on copies.
    """
    grey = Image.new("L", image.size)
    transparent = image.info.get("transparency")  # a 16-bit PNG names one transparent grey level
    to_8_bits = _steps_of(image) if image.mode.startswith("I;16") else _stretch(image)
    for top, values in _bands(image):
        band = to_8_bits(values)
        if isinstance(transparent, int):
            band[values == transparent] = 255
        grey.paste(Image.fromarray(band), (0, top))
    return grey


def _bands(image: Image.Image) -> Iterator[tuple[int, Any]]:
    """Yield the first row and values [rows, W] of each band, from top to bottom."""
    width, height = image.size
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield top, np.asarray(image.crop((0, top, width, min(height, top + rows))))


def _steps_of(image: Image.Image) -> Callable[[Any], Any]:
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    largest = 2 ** tags.get(258, (16,))[0] - 1
    steps = np.minimum((np.arange(2**16) * 255 + largest // 2) // largest, 255).astype(np.uint8)
    if tags.get(262) == 0:  # "white is zero"
        steps = 255 - steps
    return lambda values: steps[values]


def _stretch(image: Image.Image) -> Callable[[Any], Any]:
    # 32-bit integers and floats have no agreed white level. Use the first common one (1, 255, 65,535) that
    # covers every value; otherwise stretch from minimum to maximum.
    extrema = [(float(v.min()), float(v.max())) for v in (_finite(values) for _, values in _bands(image))]
    low, high = min(low for low, _ in extrema), max(high for _, high in extrema)
    if low >= 0 and high <= 65_535:
        low, high = 0.0, next(white for white in (1.0, 255.0, 65_535.0) if high <= white)
    if image.mode == "I" and low == 0.0 and high == 1.0:
        high = 255.0
    scale = 255 / max(high - low, 1e-12)
    return lambda values: ((_finite(values) - low) * scale).round().astype(np.uint8)


def _finite(values: Any) -> Any:
    return np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)


def _without_far_ends(image: Image.Image) -> Image.Image:
    """Crop a very long image to its middle.

    Otherwise a strip of 100,000 x 300 pixels, scaled by its shorter side, would keep its size.
    """
    shorter = min(image.size)
    if max(image.size) <= MAX_ASPECT_RATIO * shorter:
        return image
    width, height = (min(side, MAX_ASPECT_RATIO * shorter) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _scale_down(image: Image.Image, shortest_side: int, resampling: Resampling) -> Image.Image:
    image = _without_far_ends(image)
    shorter = min(image.size)
    if shorter <= shortest_side:
        return image
    width, height = (max(shortest_side, round(side * shortest_side / shorter)) for side in image.size)
    return image.resize((width, height), resampling)


@dataclass(frozen=True)
class Shot:
    """A labelled image file."""

    source: bytes | Path
    class_name: str
    label_confirmed: bool = False
    """True if the label is certain, so that it is no label issue."""
