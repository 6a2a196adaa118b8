"""Publication: store the files of a model or a report, then commit the row that names them."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.clip.errors import CorruptWeights
from core.clip.weights.manifest import MANIFEST, WEIGHTS, file_sha256, read_manifest
from core.store.db.ids import new_id
from core.store.errors import BlobDamaged, BlobNotFound, StorageUnavailable
from core.store.jobs import jobs, lifecycle
from core.store.registry import models
from core.store.storage import deletions
from core.store.storage.blobs import Blobs
from worker.lease import Lease
from worker.trainer.supervisor import Stopped

logger = logging.getLogger(__name__)
PATIENCE_SECONDS = 3_600
"""Maximum wait for full or unreachable storage (seconds). Without the wait the finished training would be
lost, and no other job could be published either."""
PAUSE_SECONDS = 5.0


def publish_model(
    lease: Lease,
    blobs: Blobs,
    folder: Path,
    *,
    metrics: dict[str, Any] | None,
    seconds: float,
) -> None:
    """Upload the weights in `folder` under new keys, then commit the model.

    Args:
        metrics: current metrics of the job.
        seconds: duration of the training.

    Raises:
        Stopped: the attempt must stop, or its lease is lost.
        CorruptWeights, StorageUnavailable, StorageFull, BlobDamaged, BlobNotFound: nothing is published.
    """
    claim = lease.claim
    manifest = read_manifest((folder / MANIFEST).read_bytes())
    model_id = new_id("mdl")
    prefix = models.blobs_of(model_id)
    if file_sha256(folder / WEIGHTS) != manifest.sha256:
        raise CorruptWeights("The trained weights were damaged on the worker's disk. Check that disk.")
    with deletions.unless_kept(lease.database, blobs, prefix):
        store_weights(blobs, prefix, folder, should_stop=lease.should_stop)
        if not lease.write(
            lifecycle.publish,
            model_id,
            manifest,
            metrics,
            seconds=seconds,
            evaluate=claim.wants_evaluation,
        ):
            lease.lost.set()
            raise Stopped
    logger.info("%s: published %s", claim.job_id, model_id)


def end_job(lease: Lease, blobs: Blobs, report: bytes, metrics: dict[str, Any] | None) -> None:
    """Store the report, then commit the end of the job. Its model must be published.

    Raises:
        Stopped: the lease is lost.
        StorageUnavailable, StorageFull: the job has not ended.
    """
    key = jobs.report_of(lease.claim.job_id, new_id("rep"))
    with deletions.unless_kept(lease.database, blobs, key):
        blobs.put(key, report)
        if not lease.write(lifecycle.finish, metrics, key):
            lease.lost.set()
            raise Stopped
    logger.info("%s: evaluated", lease.claim.job_id)


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
