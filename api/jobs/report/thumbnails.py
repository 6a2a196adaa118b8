"""Thumbnails embedded in the report page."""

import base64
from collections.abc import Mapping

from api.jobs.images.thumbnail import jpeg_thumbnail
from core.clip.errors import BadImage
from core.serving.service import Serving
from core.store.errors import BlobNotFound

SIDE = 144


def thumbnails(serving: Serving, keys: Mapping[int, str], owner: str) -> dict[int, str]:
    """Return thumbnails as `data:` URLs by position, without images that are missing or unreadable."""

    def data_url(key: str) -> str | None:
        try:
            jpeg = jpeg_thumbnail(serving, key, owner, SIDE)
        except (BadImage, BlobNotFound):
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

    made = dict(zip(keys, serving.readers.map(data_url, keys.values()), strict=True))
    return {position: url for position, url in made.items() if url is not None}
