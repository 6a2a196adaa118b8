"""Thumbnails embedded in the report page."""

import base64
from collections.abc import Mapping
from io import BytesIO

from core.clip.data.images import ImageLimits
from core.clip.errors import BadImage
from core.serving.decoding import Decoding
from core.serving.service import Serving
from core.store.errors import BlobNotFound

SIDE = 144


def thumbnails(serving: Serving, keys: Mapping[int, str], owner: str) -> dict[int, str]:
    """Return thumbnails as `data:` URLs by position, without images that are missing or unreadable."""
    settings = serving.settings
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)

    request = object()

    def small(key: str) -> str | None:
        def shrink(decoding: Decoding[bytes]) -> bytes:
            image = decoding.open_image(content, limits, shortest_side=SIDE)
            image.thumbnail((SIDE, SIDE))
            file = BytesIO()
            image.save(file, "JPEG", quality=75)
            return file.getvalue()

        try:
            content = serving.blobs.get(key)
            (decoding,) = serving.decoding.submit((owner, "report"), request, [shrink])
            jpeg = decoding.result()
        except (BadImage, BlobNotFound):
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

    made = dict(zip(keys, serving.readers.map(small, keys.values()), strict=True))
    return {position: url for position, url in made.items() if url is not None}
