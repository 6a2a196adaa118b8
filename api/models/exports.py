"""Export of models as zip files."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import IO

from anyio import CancelScope, to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from core.clip.config import round_alpha
from core.scratch import ScratchSpace
from core.serving.exports import Format, export
from core.serving.service import Serving
from core.store.registry import models

CHUNK = 262_144
ZIP = "application/zip"


def answer_export(
    serving: Serving,
    scratch: ScratchSpace,
    owner: str,
    reference: str,
    alpha: float | None,
    format: Format,
    names: Sequence[str] | None,
) -> StreamingResponse:
    """Respond with the model at `alpha`, by default the model's own.

    The file counts as a temporary file of the owner until it is sent. A large one counts as all that an owner
    may have.

    Raises:
        ModelNotFound: the owner has no such model.
        ServerBusy: the owner has not read earlier exports yet.
    """
    with serving.database.read() as session:
        model = models.resolve(session, reference, owner=owner)
    with ExitStack() as opened:
        grant = opened.enter_context(scratch.admit(owner))
        half = scratch.bytes.most // 2
        wanted = (model, model.alpha if alpha is None else round_alpha(alpha), format, names)
        parts = (serving.settings, serving.engine.pool, serving.blobs, *wanted)
        archive = opened.enter_context(export(*parts, lambda size: grant.take(bytes=min(size, half))))
        held = opened.pop_all()
    name = f"{re.sub(r'[^A-Za-z0-9_-]', '', model.id)}-{format}.zip"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(os.fstat(archive.fileno()).st_size),
    }
    return Download(archive, held, headers)


class Download(StreamingResponse):
    """An archive, whose temporary file goes when the response ends: sent, refused or cancelled."""

    def __init__(self, archive: IO[bytes], held: ExitStack, headers: Mapping[str, str]) -> None:
        super().__init__(iter(partial(archive.read, CHUNK), b""), media_type=ZIP, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._held.close)  # removing a large file takes time
