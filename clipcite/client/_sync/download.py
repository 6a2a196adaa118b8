# Generated from clipcite/client/_async/download.py by `python -m tests.repository.unasync`. Do not edit.
"""Download of a large response to a file."""

import os
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import httpx

from clipcite.client._sync.transport import Transport
from clipcite.client.address import response_of
from clipcite.client.errors import APIConnectionError
from clipcite.client.request import Request, status_error
from clipcite.client.retry import RETRYABLE

CHUNK_BYTES = 256 * 1024
OnDownload = Callable[[int, int | None], None]
"""Called with the bytes received and their total number, None if unknown."""


def download(transport: Transport, request: Request, path: Path, on_download: OnDownload | None) -> Path:
    """Replace the file at `path` once the response is complete. A failure leaves the old file in place.

    Raises:
        APIStatusError: an error response.
        APIConnectionError: no response, after all retries.
        OSError: the file cannot be written.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            _receive(transport, request, file, on_download)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _receive(transport: Transport, request: Request, file: BinaryIO, on_download: OnDownload | None) -> None:
    attempt = 0
    while True:
        attempt += 1
        try:
            with closing(transport.open(request)) as response:
                if response.status_code == 200:
                    with transport.connection_errors():
                        _copy(response, file, on_download)
                    return
            pause = (
                transport.retry.pause(attempt, response.headers)
                if response.status_code in RETRYABLE
                else None
            )
            if pause is None:
                raise status_error(response_of(response))
        except APIConnectionError:
            pause = transport.retry.pause(attempt)
            if pause is None:
                raise
        time.sleep(pause)


def _copy(response: httpx.Response, file: BinaryIO, on_download: OnDownload | None) -> None:
    """Write the whole body, overwriting what an interrupted attempt left."""
    file.seek(0)
    file.truncate()
    length = response.headers.get("content-length", "")
    total = int(length) if length.isdecimal() else None
    done = 0
    for chunk in response.iter_bytes(CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        if on_download is not None:
            on_download(done, total)
