"""Fingerprint of a request, which tells a retry from another request with the same idempotency key."""

import hashlib
import json

from api.jobs.upload import ValidatedUpload
from core.clip.config import AdaptConfig


def fingerprint(
    upload: ValidatedUpload, config: AdaptConfig, *, name: str | None, on_bad_image: str, webhook: str | None
) -> str:
    """Return a SHA-256 of the resolved settings and of every image with its label.

    The bytes of the body do not count, because the multipart boundary differs at every retry. Neither do the
    names and the packing of the images.
    """
    content = {
        "name": name,
        "on_bad_image": on_bad_image,
        "webhook": webhook,
        "config": config.to_dict(),
        "images": [
            [shot.split, shot.class_name, shot.sha256, *([True] if shot.label_confirmed else [])]
            for shot in upload.images
        ],
    }
    # Sorted, because the order of the keys in `config` must not matter.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
