"""From the bytes of a file to an upright RGB picture."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, WebPImagePlugin
from PIL.Image import Resampling

from core.clip.errors import BadPicture

SHORTEST = 4
"""Pixels a side: a picture of less shows nothing, and is a tracking pixel or a broken export."""
LONGEST = 16  # times the shorter side: more is cut off at both ends where pictures are scaled down
KINDS = "JPEG, PNG, WebP, GIF, BMP and TIFF"


@dataclass(frozen=True)
class PictureLimits:
    """Both are checked before anything is decoded."""

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000


def open_picture(
    source: bytes | Path,
    limits: PictureLimits = PictureLimits(),
    *,
    shortest_side: int | None = None,
    grey: bool = False,
) -> Image.Image:
    """The first frame of a picture file: upright, RGB, 8 bits, transparency on white.

    JPEG, PNG, WebP, GIF, BMP and TIFF are told by content. 16-bit greys are scaled to 8 bits, CMYK
    is converted. The result carries no metadata, so nothing can turn it a second time.

    With `shortest_side` a larger picture is scaled down (bicubic, antialiased) until its shorter
    side has so many pixels; a smaller one stays as it is. Of a very long one the middle is taken.
    With `grey` it is one channel, by a filter half as wide (Hamming, as sharp), in a third of the time.

    Raises:
        BadPicture: `empty_file`, `picture_too_large`, `not_a_picture`, `picture_too_small`,
            `too_many_pixels` or `truncated_picture`; the detail says what to do.
        OSError: the path can't be read.
    """
    data = _read(source, limits.max_bytes)
    picture, kind = _open_header(data)
    _check_pixels(picture, limits.max_pixels)
    try:
        if shortest_side is not None:
            # The JPEG decoder halves while it decodes; twice the wanted side stays for the bicubic.
            picture.draft("L" if grey else None, (2 * shortest_side, 2 * shortest_side))
        picture.load()
        turn = _turn(picture)
        opened = _to_grey(picture) if grey else _to_rgb(picture)
        if shortest_side is not None:
            opened = _scale_down(opened, shortest_side, Resampling.HAMMING if grey else Resampling.BICUBIC)
        if turn is not None:
            opened = opened.transpose(turn)
    except MemoryError:
        raise
    except Exception as error:  # Pillow answers garbage with a dozen exception types
        raise _damaged(kind) from error
    if opened is picture:
        opened = picture.copy()  # a plain Image, which doesn't hold the file's bytes
    opened.info = {}
    return opened


def _read(source: bytes | Path, max_bytes: int) -> bytes:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if not size:
        raise BadPicture("empty_file", "The file is empty (0 bytes); upload it again.")
    if size > max_bytes:
        raise BadPicture(
            "picture_too_large",
            f"The file has more than {max_bytes:,} bytes, which is the most that is allowed. Save it "
            "smaller or as JPEG.",
        )
    return source if isinstance(source, bytes) else source.read_bytes()


# Importing a plugin registers it in Image.OPEN. "JPEG" also reads the first picture of an MPO file,
# which many cameras call .jpg. BMP is last: its mark is two letters, with which a text may begin.
Image.preinit()
_FORMATS = (
    "JPEG",
    "PNG",
    WebPImagePlugin.WebPImageFile.format,
    "GIF",
    TiffImagePlugin.TiffImageFile.format,
    "BMP",
)


def _open_header(data: bytes) -> tuple[ImageFile.ImageFile, str]:
    """The picture with its header read and nothing decoded, and the name of its kind."""
    # Image.open does the same, but measures every picture against a process-wide constant first, with
    # a warning at 89 million pixels; the limit here is the caller's.
    for kind in _FORMATS:
        factory, accepts = Image.OPEN[kind]
        if accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            return factory(BytesIO(data), ""), kind
        except MemoryError:
            raise
        except Image.DecompressionBombError as error:  # WebP allocates its canvas when it is opened
            raise BadPicture("too_many_pixels", "The picture has too many pixels; scale it down.") from error
        except Exception as error:
            if kind == "BMP":
                break
            raise _damaged(kind) from error
    raise BadPicture(
        "not_a_picture",
        f"The file's content is not a picture that can be read; use {KINDS} (the name of the file "
        "doesn't matter).",
    )


def _damaged(kind: str) -> BadPicture:
    return BadPicture(
        "truncated_picture",
        f"The {kind} file is damaged or cut short; upload it again, or save it anew from its source.",
    )


def _check_pixels(picture: ImageFile.ImageFile, max_pixels: int) -> None:
    width, height = picture.size
    if min(width, height) < SHORTEST:
        raise BadPicture(
            "picture_too_small",
            f"The picture has {width:,} x {height:,} pixels, which shows nothing; at least {SHORTEST} on "
            "each side are needed. Use the original.",
        )
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        # A decoder allocates whole tiles, and a tile may be far larger than the picture.
        tile_width, tile_height = (picture.tag_v2.get(tag, 0) for tag in (322, 323))
        if isinstance(tile_width, int) and isinstance(tile_height, int):
            width, height = max(width, tile_width), max(height, tile_height)
    if width * height > max_pixels:
        raise BadPicture(
            "too_many_pixels",
            f"The picture has {width:,} x {height:,} pixels; at most {max_pixels:,} in all are allowed. "
            "Scale it down.",
        )


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How to turn the picture upright. A broken EXIF block is no reason to refuse its picture."""
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        return _deep_grey(picture).convert("RGB")
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    if picture.mode == "La":
        picture = picture.convert("LA")
    rgba = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    on_white = Image.new("RGB", rgba.size, "white")
    on_white.paste(rgba, mask=rgba.getchannel("A"))
    return on_white


def _to_grey(picture: Image.Image) -> Image.Image:
    if picture.mode == "L" and not picture.has_transparency_data:
        return picture
    return _to_rgb(picture).convert("L")


def _deep_grey(picture: Image.Image) -> Image.Image:
    """One channel of more than 8 bits as 8 bits; Pillow's own conversion would clip it."""
    values: Any = np.asarray(picture)  # [H, W]
    transparent = picture.info.get("transparency")  # a 16-bit PNG names one grey
    holes = values == transparent if isinstance(transparent, int) else None
    if values.dtype.kind == "u":
        tags = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
        bits = tags.get(258, (16,))[0]
        largest = 2**bits - 1
        steps = (np.arange(2**16) * 255 + largest // 2) // largest
        steps = np.minimum(steps, 255).astype(np.uint8)
        if tags.get(262) == 0:  # "white is zero"
            steps = 255 - steps
        grey = steps[values]
    else:
        # 32-bit whole numbers and floats have no agreed white: take the first customary one that
        # holds every value, else stretch from the darkest to the brightest.
        values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 65_535:
            low, high = 0.0, next(white for white in (1.0, 255.0, 65_535.0) if high <= white)
        if picture.mode == "I" and low == 0.0 and high == 1.0:
            high = 255.0
        grey = ((values - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8)
    if holes is not None:
        grey[holes] = 255
    return Image.fromarray(grey)


def _without_far_ends(picture: Image.Image) -> Image.Image:
    """The middle of a very long picture: scaled down by its shorter side, a strip of 100,000 x 300
    would stay as large as it is."""
    shorter = min(picture.size)
    if max(picture.size) <= LONGEST * shorter:
        return picture
    width, height = (min(side, LONGEST * shorter) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _scale_down(picture: Image.Image, shortest_side: int, resampling: Resampling) -> Image.Image:
    picture = _without_far_ends(picture)
    shorter = min(picture.size)
    if shorter <= shortest_side:
        return picture
    width, height = (max(shortest_side, round(side * shortest_side / shorter)) for side in picture.size)
    return picture.resize((width, height), resampling)
