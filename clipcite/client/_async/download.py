"""Download of a large response to a file."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
import httpx

from clipcite.client._async.transport import AsyncTransport
from clipcite.client.request import Request

CHUNK_BYTES = 256 * 1024
OnDownload = Callable[[int, int | None], None]
"""Called with the bytes received and their total number, None if unknown."""


async def download(
    transport: AsyncTransport, request: Request, path: Path, on_download: OnDownload | None
) -> Path:
    """Replace the file at `path` once the response is complete. A failure leaves the old file.

    Raises:
        APIStatusError: an error response.
        APIConnectionError: no response, after all retries.
        OSError: the file cannot be written.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            await transport.send(request, receive=lambda response: _copy(response, file, on_download))
            file.flush()
            await anyio.to_thread.run_sync(os.fsync, file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


async def _copy(response: httpx.Response, file: BinaryIO, on_download: OnDownload | None) -> None:
    """Write the whole body. Overwrite what an interrupted attempt left."""
    file.seek(0)
    file.truncate()
    length = response.headers.get("content-length", "")
    total = int(length) if length.isdecimal() else None
    done = 0
    async for chunk in response.aiter_bytes(CHUNK_BYTES):
        await anyio.to_thread.run_sync(file.write, chunk)
        done += len(chunk)
        if on_download is not None:
            on_download(done, total)
