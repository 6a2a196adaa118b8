"""Thumbnails of stored images."""

from io import BytesIO

from core.clip.data.header import ImageLimits
from core.serving.service import Serving


def jpeg_thumbnail(serving: Serving, key: str, owner: str, side: int) -> bytes:
    """Return the stored image as JPEG of at most `side` × `side` pixels.

    Raises:
        BlobNotFound: the file is lost.
        BadImage: the file can't be decoded.
    """
    settings = serving.settings
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    content = serving.blobs.get(key)
    image = serving.decoding.open_image(content, limits, owner=owner, shortest_side=side)
    image.thumbnail((side, side))
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
