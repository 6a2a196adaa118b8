"""Conversion of decoded images of any mode to RGB or grey with 8 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image as RGB, with transparency on white. An RGB image is returned unchanged."""
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
    """Convert a channel of more than 8 bits to 8 bits. Pillow would clip it."""
    values = np.asarray(image)
    grey = _white_levels(image)[values] if image.mode.startswith("I;16") else _stretched(values, image.mode)
    transparent = image.info.get("transparency")  # a 16-bit PNG names one transparent grey level
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _white_levels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the 8-bit level [65,536] of each 16-bit value."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    largest = 2 ** tags.get(258, (16,))[0] - 1
    scaled = (np.arange(2**16) * 255 + largest // 2) // largest
    levels: NDArray[np.uint8] = np.minimum(scaled, 255).astype(np.uint8)
    return ~levels if tags.get(262) == 0 else levels  # 0: "white is zero"


def _stretched(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    # 32-bit integers and floats have no agreed white level. Use the first common one (1, 255, 65,535) that
    # covers every value; otherwise stretch from minimum to maximum.
    finite = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= 65_535:
        low, high = 0.0, next(white for white in (1.0, 255.0, 65_535.0) if high <= white)
    if mode == "I" and low == 0.0 and high == 1.0:
        high = 255.0
    return ((finite - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8)
