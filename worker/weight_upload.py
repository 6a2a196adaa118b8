"""Upload of trained weights, verified by reading them back."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from core.clip.weights.manifest import MANIFEST, WEIGHTS, file_sha256
from core.store.errors import BlobDamaged, BlobNotFound, StorageUnavailable
from core.store.storage.blobs import Blobs
from worker.trainer.supervisor import Stopped

logger = logging.getLogger(__name__)
PATIENCE_SECONDS = 3_600
"""Maximum wait for full or unreachable storage. Without the wait the finished training would be lost, and no
other job could be published either."""
PAUSE_SECONDS = 5.0


def store_weights(
    blobs: Blobs,
    prefix: str,
    folder: Path,
    *,
    should_stop: Callable[[], bool],
    patience_seconds: float = PATIENCE_SECONDS,
    pause_seconds: float = PAUSE_SECONDS,
) -> None:
    """Upload weights and manifest from `folder` to an unused `prefix`, and verify size and SHA-256 there.

    Raises:
        StorageUnavailable, StorageFull, BlobDamaged, BlobNotFound: after `patience_seconds` of retries.
        Stopped: `should_stop` returned True.
    """
    until = time.monotonic() + patience_seconds
    while True:
        try:
            for name in (WEIGHTS, MANIFEST):
                file = folder / name
                blobs.put(f"{prefix}/{name}", file)
                blobs.verify(f"{prefix}/{name}", bytes=file.stat().st_size, sha256=file_sha256(file))
            return
        except (StorageUnavailable, BlobDamaged, BlobNotFound) as error:
            if time.monotonic() > until:
                raise
            logger.warning("%s can't be stored yet, %s: %s", prefix, error.code, error)
        again = time.monotonic() + pause_seconds
        while time.monotonic() < again:
            if should_stop():
                raise Stopped
            time.sleep(min(0.2, pause_seconds))
