"""Responses with exported models."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import IO

from anyio import CancelScope, to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

CHUNK = 262_144
ZIP = "application/zip"


class Download(StreamingResponse):
    """Response with an archive. The temporary file is removed when the response ends in any way."""

    def __init__(self, archive: IO[bytes], held: ExitStack, headers: Mapping[str, str]) -> None:
        super().__init__(iter(partial(archive.read, CHUNK), b""), media_type=ZIP, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._held.close)  # in a thread: removing a large file takes time
