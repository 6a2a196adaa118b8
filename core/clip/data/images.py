"""Decoding of image files to upright RGB images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from PIL import Image, ImageFile, TiffImagePlugin
from PIL.Image import Resampling

from core.clip.data.colours import to_grey, to_rgb
from core.clip.data.header import Header, ImageLimits, damaged, read_file, read_header

MAX_ASPECT_RATIO = 16  # longer images are cropped at both ends when scaled down
BYTES_PER_PIXEL = 20
"""Maximum memory of decoding, including copies (bytes per pixel). WebP takes 17, RGBA 9, RGB 4."""


_opener: Callable[..., Image.Image] | None = None


@dataclass(frozen=True)
class Fit:
    """The test transform of an image tower: scale the shorter side or both sides, and crop the centre."""

    side: int
    """Side of the square result (pixels)."""
    resampling: int
    """A member of `PIL.Image.Resampling`."""
    squash: bool = False
    """Scale both sides to `side`, so that nothing is cropped."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the square image. Equal to torchvision's `Resize` and `CenterCrop`, bit by bit."""
        side, shorter = self.side, min(image.size)
        size = (side, side) if self.squash else tuple(int(side * length / shorter) for length in image.size)
        if image.size != size:
            image = image.resize((size[0], size[1]), self.resampling)
        left, top = (round((length - side) / 2) for length in size)
        return image.crop((left, top, left + side, top + side))


class OpenOptions(TypedDict, total=False):
    """Options of `open_image`."""

    shortest_side: int | None
    """Scale a larger image down (bicubic, antialiased) to this shorter side (pixels). A smaller image keeps
    its size. If an image is longer than 16 times its shorter side, use only its middle."""
    grey: bool
    """Return one channel, scaled with a Hamming filter. It is as sharp as bicubic and three times as fast."""
    fit: Fit | None
    """Return the input of an image tower. `shortest_side` is then twice its side."""


def open_image(
    source: bytes | Path, limits: ImageLimits = ImageLimits(), **how: Unpack[OpenOptions]
) -> Image.Image:
    """Decode the first frame of an image file: upright, RGB, 8 bits, transparency on white.

    JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC are detected by content. 16-bit greys are scaled to 8 bits,
    CMYK is converted. The result has no metadata, so the orientation can't be applied twice.

    Raises:
        BadImage: `empty_file`, `image_too_large`, `not_an_image`, `image_too_small`, `too_many_pixels`,
            `image_too_costly` or `truncated_image`; the detail has the remedy.
        OSError: the path can't be read.
    """
    if _opener is not None:
        return _opener(read_file(source, limits.max_bytes), limits, **how)
    return begin(source, limits, **how).decode()


def open_with(opener: Callable[..., Image.Image] | None) -> None:
    """Replace `open_image` in this process by a function such as `Decoders.open_image`."""
    global _opener
    _opener = opener


@dataclass(frozen=True)
class Undecoded:
    """An image file within the limits, not yet decoded. `decode` may be called once."""

    header: Header
    how: OpenOptions
    peak_bytes: int
    """Memory that decoding takes, estimated from the header (bytes). A crafted file may take more."""

    def decode(self) -> Image.Image:
        """Decode the image as `open_image` does.

        Raises:
            BadImage: `truncated_image`.
        """
        image, side = self.header.image, _side(self.how)
        grey, fit = self.how.get("grey", False), self.how.get("fit")
        try:
            image.load()
            rotation = exif_rotation(image)
            opened = to_grey(image) if grey else to_rgb(image)
            if side is not None:
                opened = _scale_down(opened, side, Resampling.HAMMING if grey else Resampling.BICUBIC)
            if rotation is not None:
                opened = opened.transpose(rotation)
            if fit is not None:
                opened = fit(opened)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises a dozen types of errors for damaged files
            raise damaged(self.header.kind) from error
        if opened is image:
            opened = image.copy()  # a plain Image without a reference to the file's bytes
        opened.info = {}
        return opened


def begin(source: bytes | Path, limits: ImageLimits = ImageLimits(), **how: Unpack[OpenOptions]) -> Undecoded:
    """Read a file's header, so that its memory use is known before decoding.

    Takes the arguments of `open_image` and raises its exceptions.
    """
    header = read_header(source, limits)
    image, side = header.image, _side(how)
    if side is not None:
        # The JPEG decoder can scale by powers of two; twice the target side is left for the bicubic filter.
        image.draft("L" if how.get("grey") else None, (2 * side, 2 * side))
    return Undecoded(header, how, header.extra_bytes + BYTES_PER_PIXEL * image.width * image.height)


def _side(how: OpenOptions) -> int | None:
    fit = how.get("fit")
    return how.get("shortest_side") if fit is None else 2 * fit.side


_WITH_ORIENTATION = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_EXIF_ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_rotation(image: ImageFile.ImageFile) -> Image.Transpose | None:
    """Return the rotation or flip by EXIF that makes the image upright, if any. Pillow already rotates TIFF.

    Unlike in `ImageOps.exif_transpose`, a damaged EXIF block is ignored.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) or image.info.keys().isdisjoint(_WITH_ORIENTATION):
        return None
    try:
        return _EXIF_ROTATIONS.get(image.getexif().get(274, 1))
    except MemoryError:
        raise
    except Exception:  # Pillow raises many types for damaged blocks
        return None


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
