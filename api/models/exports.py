"""GET /models/{id}/export: an adapted model to take along."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ModelRef, SettingsDep
from api.problems import responses
from core.clip.config import round_alpha
from core.serving.exports import export
from core.serving.limiter import ServerBusy
from core.store.registry import models

CHUNK = 1_048_576
WAIT_SECONDS = 5.0
ZIP = "application/zip"

router = APIRouter(prefix="/models", tags=["models"])
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


@router.get(
    "/{model_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}},
        **responses(401, 404, 422, 500, 501, 503, 507),
    },
)
def export_model(
    *,
    settings: SettingsDep,
    database: DatabaseDep,
    blobs: BlobsDep,
    owner: CurrentOwner,
    model_id: ModelRef,
    alpha: Annotated[
        float | None, Query(ge=0, le=1, description="Rounded to 0.01; default the model's.")
    ] = None,
    format: Annotated[
        Literal["open_clip", "onnx", "delta"],
        Query(
            description="`open_clip`: a folder that open_clip loads. `onnx`: one graph for pictures, one for "
            "texts. `delta`: the change of the backbone alone, for POST /models of a service that has it."
        ),
    ] = "open_clip",
) -> StreamingResponse:
    """Download the model at one α, as a zip with a model card."""
    with database.read() as session:
        model = models.resolve(session, model_id, owner=owner)
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
