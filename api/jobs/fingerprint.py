"""What two requests must have in common to be the same one, sent twice."""

import hashlib
import json

from api.jobs.upload import ValidatedUpload
from core.clip.config import AdaptConfig


def fingerprint(
    intake: ValidatedUpload, config: AdaptConfig, *, name: str | None, on_bad_image: str, webhook: str | None
) -> str:
    """A hash of what was asked for: the settings as they were resolved, and every image with its
    label. Not of the bytes of the body, whose boundary differs at every retry, nor of how images
    were packed and called."""
    content = {
        "name": name,
        "on_bad_image": on_bad_image,
        "webhook": webhook,
        "config": config.to_dict(),
        "images": [[shot.split, shot.class_name, shot.sha256] for shot in intake.images],
    }
    # Sorted, so that the order of the keys in `config` does not matter.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
