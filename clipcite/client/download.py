"""A large answer into a file."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from clipcite.client.errors import APIConnectionError
from clipcite.client.failure import failure_of
from clipcite.client.request import Answer, Request
from clipcite.client.retry import AGAIN, Retry
from clipcite.client.steps import Open, Read, Sleep, Steps

OnDownload = Callable[[int, int | None], None]
"""Hears how many bytes have come, and of how many, which may be unknown."""


def download(request: Request, path: Path, retry: Retry, on_download: OnDownload | None) -> Steps[Path]:
    """The file at `path`, once all of it is there: until then, and if it fails, what was there before.

    Raises:
        APIStatusError, APIConnectionError; OSError: it can't be written.
    """
    attempt = 0
    with _beside(path) as (file, finish):
        while True:
            attempt += 1
            try:
                answer: Answer = yield Open(request)
                if answer.status == 200:
                    yield from _copy(answer, file, on_download)
                    finish()
                    return path
                pause = retry.pause(attempt, answer.headers) if answer.status in AGAIN else None
                if pause is None:
                    raise failure_of(answer)
            except APIConnectionError:
                pause = retry.pause(attempt)
                if pause is None:
                    raise
            yield Sleep(pause)


def _copy(answer: Answer, file: BinaryIO, on_download: OnDownload | None) -> Steps[None]:
    """From the beginning, also after an attempt that broke off."""
    file.seek(0)
    file.truncate()
    length = answer.headers.get("content-length", "")
    total = int(length) if length.isdecimal() else None
    done = 0
    while True:
        chunk: bytes | None = yield Read()
        if chunk is None:
            return
        file.write(chunk)
        done += len(chunk)
        if on_download is not None:
            on_download(done, total)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """A file in the same folder, and what puts it in the place of `path`."""
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:

            def finish() -> None:
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)

            yield file, finish
    finally:
        part.unlink(missing_ok=True)
