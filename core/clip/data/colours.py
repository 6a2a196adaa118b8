"""Conversion of decoded images of any mode to RGB or grey with 8 bits."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

BAND_PIXELS = 1_000_000


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image as RGB, with transparency on white; an RGB image itself."""
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


def to_grey(image: Image.Image) -> Image.Image:
    """Return the image with one channel of 8 bits, with transparency on white."""
    if _is_deep(image):
        return _deep_grey(image)
    if image.mode == "L" and not image.has_transparency_data:
        return image
    return to_rgb(image).convert("L")


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
