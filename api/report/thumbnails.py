"""Small pictures inside a page, so that the page needs nothing else."""

import base64
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from core.clip.errors import BadPicture
from core.clip.images import PictureLimits, open_picture
from core.store.blobs import Blobs
from core.store.errors import BlobNotFound

SIDE = 144
READERS = 4


def thumbnails(blobs: Blobs, keys: Mapping[int, str], limits: PictureLimits) -> dict[int, str]:
    """`data:` URLs by position. A picture that is no longer there is left out: the report is still true."""

    def small(key: str) -> str | None:
        try:
            picture = open_picture(blobs.get(key), limits, shortest_side=SIDE)
        except (BadPicture, BlobNotFound):
            return None
        picture.thumbnail((SIDE, SIDE))
        file = BytesIO()
        picture.save(file, "JPEG", quality=75)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

    with ThreadPoolExecutor(READERS) as threads:
        made = dict(zip(keys, threads.map(small, keys.values()), strict=True))
    return {position: url for position, url in made.items() if url is not None}
