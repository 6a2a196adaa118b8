"""Features of the images of a pile, computed once per model and alpha."""

import hashlib
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray

from api import quotas
from api.classify.scoring import Images
from api.serving.lru_cache import LruCache
from api.serving.pool.served_model import ServedModel
from api.serving.service import Serving, Subject, look_up
from clipcite.types.problems import ProblemAction
from core.admission import patiently
from core.clip.errors import BadImage
from core.errors import ExpectedError
from core.store import piles
from core.store.accounts import owners
from core.store.db.ids import new_id
from core.store.db.session import Database
from core.store.db.tables import Pile, PileFeatures
from core.store.errors import Conflict, PileNotFound
from core.store.storage import deletions
from core.store.storage.blobs import Blobs
from core.turns import TurnThreads

Rows = NDArray[np.float16]
PART = 16
"""Number of images that are encoded at a time, so that other requests run in between."""
STORED = 256
"""Number of images whose features are stored together."""
CACHE_BYTES = 128_000_000
THREADS = 2
logger = logging.getLogger(__name__)


def encode(serving: Serving, files: Sequence[bytes], model: ServedModel, owner: str) -> list[Rows | BadImage]:
    """Return the features [D] of each file, or why it can't be read. The model must be in memory.

    Raises:
        ServerBusy: the service was overloaded for TURN_SECONDS.
    """
    found: list[Rows | BadImage] = []
    for start in range(0, len(files), PART):
        found += patiently(partial(_encoded, serving, files[start : start + PART], model, owner))
    return found


def _encoded(
    serving: Serving, files: Sequence[bytes], model: ServedModel, owner: str
) -> list[Rows | BadImage]:
    with serving.images.hold(owner, len(files)):
        decoded = [image for batch in Images(files, serving).decoded(model) for image in batch]
        good = [image for image in decoded if not isinstance(image, BadImage)]
        if not good:
            return [image for image in decoded if isinstance(image, BadImage)]
        batcher = serving.engine.batcher
        item = batcher.submit((model, "images"), torch.stack(good))
        try:
            rows = iter(batcher.wait(item, serving.engine.wait_seconds).numpy().astype("<f2"))
        finally:
            batcher.end(item)  # the model must stay in memory until all are computed
        return [image if isinstance(image, BadImage) else next(rows) for image in decoded]


def as_blob(rows: Sequence[Rows]) -> bytes:
    """Return rows in the format of NumPy."""
    file = BytesIO()
    np.save(file, np.stack(rows), allow_pickle=False)
    return file.getvalue()


class PileFeatureStore:
    """Features of piles: stored ones, kept in memory for the next sort, and missing ones to compute."""

    def __init__(self, database: Database, blobs: Blobs, serving: Serving) -> None:
        self._database = database
        self._blobs = blobs
        self._serving = serving
        self._kept = LruCache(CACHE_BYTES)
        """Rows by blob key. A blob never changes."""
        self._threads = TurnThreads(ThreadPoolExecutor(THREADS, "pile-features"))
        """Threads in which owners take turns after each STORED images."""
        self._lock = threading.Lock()
        self._computing: set[tuple[str, str]] = set()
        self._errors: dict[tuple[str, str], Exception] = {}
        self._closed = False

    def load(self, parts: Sequence[PileFeatures], images: int) -> tuple[Rows, NDArray[np.bool_]]:
        """Return features [N, D] and which images have them.

        Raises:
            BlobNotFound, BlobDamaged, StorageUnavailable: a blob can't be read.
        """
        has = np.zeros(images, np.bool_)
        features = np.zeros((images, 0), np.float16)
        for part in parts:
            rows = self._kept.get(part.blob_key)
            if rows is None:
                blob = self._blobs.get(part.blob_key, sha256=part.sha256)
                rows = np.load(BytesIO(blob), allow_pickle=False)
                self._kept.put(part.blob_key, rows, rows.nbytes)
            if not features.shape[1]:
                features = np.zeros((images, rows.shape[1]), np.float16)
            features[part.positions], has[part.positions] = rows, True
        return features, has

    def compute(self, pile: Pile, reference: str, alpha: float | None, model_key: str) -> None:
        """Compute the missing features in a thread, unless one is already doing so.

        Raises:
            Conflict: the pile keeps no images.
            Exception: the error of the last attempt. Only one call raises it.
        """
        if not pile.keeps_images:
            raise Conflict(
                "images_not_kept",
                "This pile keeps no images, so another model can't sort it. Send the images again with ",
                ProblemAction.of("POST /piles/{pile_id}/images", pile_id=pile.id),
                ".",
            )
        key = pile.id, model_key
        with self._lock:
            error = self._errors.pop(key, None)
            if error is not None:
                raise error
            if key in self._computing:
                return
            self._computing.add(key)
        self._submit(key, pile.owner, reference, alpha)

    def _submit(self, key: tuple[str, str], owner: str, reference: str, alpha: float | None) -> None:
        run = copy_context().run  # the context has the request's id and owner
        try:
            self._threads.submit(owner, run, self._compute, key, owner, reference, alpha)
        except RuntimeError:  # the service is stopping
            self._computing.discard(key)

    def _compute(self, key: tuple[str, str], owner: str, reference: str, alpha: float | None) -> None:
        """Compute a part. The next one waits for the owner's next turn."""
        more = False
        try:
            if not self._closed:
                subject = look_up(self._database, reference, owner=owner)
                more = self._compute_part(key, owner, subject, alpha)
        except PileNotFound:  # deleted meanwhile
            pass
        except Exception as error:
            if not isinstance(error, ExpectedError):
                logger.exception("The features of a pile could not be computed.")
            self._errors[key] = error
        if more:
            self._submit(key, owner, reference, alpha)
        else:
            with self._lock:
                self._computing.discard(key)

    def _compute_part(self, key: tuple[str, str], owner: str, subject: Subject, alpha: float | None) -> bool:
        """Compute and store the next STORED features. Return whether any were missing.

        Raises:
            BlobDamaged: a copy is damaged.
            ByteQuota: the features exceed the owner's quota.
        """
        pile_id, model_key = key
        with self._database.read() as session:
            piles.get(session, pile_id, owner=owner)
            has = piles.featured(session, pile_id, model_key)
            rows = [row for row in piles.images(session, pile_id) if row.position not in has][:STORED]
        if not rows:
            return False
        files = [self._blobs.get(str(row.blob_key), sha256=row.blob_sha256) for row in rows]
        with self._serving.hold(subject, alpha) as held:
            found = encode(self._serving, files, held.served, owner)
        good = [row for row in found if not isinstance(row, BadImage)]
        if len(good) < len(rows):  # the service made these copies
            raise next(image for image in found if isinstance(image, BadImage))
        self.store(pile_id, owner, model_key, [row.position for row in rows], as_blob(good))
        return True

    def store(self, pile_id: str, owner: str, model_key: str, positions: Sequence[int], blob: bytes) -> None:
        """Store the features of existing images, unless another process has done so.

        Raises:
            PileNotFound: the pile was deleted.
            ByteQuota: the features exceed the owner's quota.
        """
        folder = f"{piles.blobs_of(pile_id)}/{new_id('ftr')}"
        with deletions.unless_kept(self._database, self._blobs, folder):
            self._blobs.put(f"{folder}/rows.features", blob)
            with self._database.write() as session:
                owners.lock(session, owner)
                pile = piles.get(session, pile_id, owner=owner, lock=True)
                if piles.featured(session, pile_id, model_key).issuperset(positions):
                    return
                quotas.check_quota(session, owner, self._serving.settings, more_bytes=len(blob))
                deletions.keep(session, folder)
                digest = hashlib.sha256(blob).hexdigest()
                piles.add_features(
                    session,
                    pile,
                    model_key,
                    f"{folder}/rows.features",
                    positions,
                    sha256=digest,
                    size=len(blob),
                )

    def close(self) -> None:
        """Stop the threads. Each first finishes its current STORED images."""
        self._closed = True
        self._threads.shutdown()
