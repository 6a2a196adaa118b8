"""Exports of models as zip files."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

from core.clip.config import round_alpha
from core.serving.exports import Format, export
from core.serving.limiter import ServerBusy
from core.settings import Settings
from core.store.db.session import Database
from core.store.registry import models
from core.store.storage.blobs import Blobs

CHUNK = 1_048_576
WAIT_SECONDS = 5.0
ZIP = "application/zip"
_one = threading.Semaphore(1)
"""Whole networks take memory: one at a time is taken apart or put together."""


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Raises ServerBusy."""
    if not _one.acquire(timeout=WAIT_SECONDS):
        raise ServerBusy("Another model is being exported or imported. Ask again in a few seconds.")
    try:
        yield
    finally:
        _one.release()


def answer_export(
    settings: Settings,
    database: Database,
    blobs: Blobs,
    owner: str,
    reference: str,
    alpha: float | None,
    format: Format,
) -> StreamingResponse:
    """Answer with the model at `alpha`, by default the model's own. Raises ModelNotFound, ServerBusy."""
    with database.read() as session:
        model = models.resolve(session, reference, owner=owner)
    with one_at_a_time():
        alpha = model.alpha if alpha is None else round_alpha(alpha)
        archive = export(settings, database, blobs, model, alpha, format)
    name = f"{re.sub(r'[^A-Za-z0-9_-]', '', model.id)}-{format}.zip"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(os.fstat(archive.fileno()).st_size),
    }
    return StreamingResponse(
        _chunks(archive), media_type=ZIP, headers=headers, background=BackgroundTask(archive.close)
    )


def _chunks(archive: IO[bytes]) -> Iterator[bytes]:
    """To the end, or until nobody wants more."""
    with archive:
        while chunk := archive.read(CHUNK):
            yield chunk
