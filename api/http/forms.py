"""Multipart forms: limits on their text, which is held in memory, and separate threads for their files."""

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import Field
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from api.threads import UPLOADS
from core.admission import Grant

MAX_FIELD_BYTES = 10_000
MAX_JSON_FIELD_BYTES = 1_000_000
JSON_FIELDS = {"class_names", "classes", "config", "models", "templates", "prompts"}
Text = Annotated[str, Field(max_length=MAX_FIELD_BYTES)]
JsonText = Annotated[str, Field(max_length=MAX_JSON_FIELD_BYTES)]
SPOOL_BYTES = 64 * 1024
"""Size from which an uploaded file is on disk. With 1 MB, thousands of small images would stay in memory."""
MAX_TEXT_BYTES = 10_000_000
TEXT_BYTES_PER_FILE = 2_000
"""Additional text per allowed file, for its headers and its label."""


class BodyRefused(HTTPException):
    """The body breaks a limit.

    This is an HTTPException, because FastAPI turns any other exception of the stream into its own 400.
    """

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.code = code


class SpooledUpload(UploadFile):
    """Uploaded file whose disk access has its own threads, and whose bytes are counted."""

    scratch: Grant
    memory: Grant

    async def write(self, data: bytes) -> None:
        on_disk = not self._in_memory
        if self.size is not None:
            self.size += len(data)
        if self._will_roll(len(data)):
            self.scratch.take(bytes=len(data) if on_disk or self.size is None else self.size)
            await UPLOADS.run(self.file.write, data)
            if not on_disk and self.size is not None:
                self.memory.take(bytes=len(data) - self.size)
        else:
            self.memory.take(bytes=len(data))
            self.file.write(data)

    async def read(self, size: int = -1) -> bytes:
        left = (self.size or 0) - self.file.tell()
        self.memory.take(bytes=left if size < 0 else min(size, left))
        return self.file.read(size) if self._in_memory else await UPLOADS.run(self.file.read, size)

    async def seek(self, offset: int) -> None:
        if self._in_memory:
            self.file.seek(offset)
        else:
            await UPLOADS.run(self.file.seek, offset)

    async def close(self) -> None:
        if self._in_memory:
            self.file.close()
        else:
            await UPLOADS.run(self.file.close)


class LimitedParser(MultiPartParser):
    """Starlette's parser with a limit on the sum of all text fields, not only on each of them."""

    def __init__(
        self,
        headers: Headers,
        stream: AsyncGenerator[bytes, None],
        scratch: Grant,
        memory: Grant,
        spool_bytes: int,
        **limits: Any,
    ) -> None:
        super().__init__(headers, stream, **limits)
        self.spool_max_size = spool_bytes
        self._scratch = scratch
        self._memory = memory
        self._max_text_bytes = max(MAX_TEXT_BYTES, TEXT_BYTES_PER_FILE * int(self.max_files))
        self._text_bytes = 0

    def on_headers_finished(self) -> None:
        # Not that of the request: Python decodes some, as punycode, in quadratic time.
        self._charset = "utf-8"
        super().on_headers_finished()
        part = self._current_part
        self._add(sum(len(name) + len(value) for name, value in part.item_headers))
        self.max_part_size = MAX_JSON_FIELD_BYTES if part.field_name in JSON_FIELDS else MAX_FIELD_BYTES
        if part.file is not None:
            part.file = SpooledUpload(
                part.file.file, size=0, filename=part.file.filename, headers=part.file.headers
            )
            part.file.scratch, part.file.memory = self._scratch, self._memory

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None:
            length = len(part.data) + end - start
            if length > self.max_part_size:
                raise _too_large(
                    f"The form field {part.field_name[:60]!r} exceeds {self.max_part_size:,} bytes. Shorten "
                    "it. If it is a file, send it with a file name."
                )
            self._check(length)
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        super().on_part_end()
        name, value = self.items[-1]
        if isinstance(value, str):
            # A single wide character makes every character of a str take up to 4 bytes.
            self._add(sys.getsizeof(name) + sys.getsizeof(value))

    def _add(self, size: int) -> None:
        self._check(size)
        self._memory.take(bytes=size)
        self._text_bytes += size

    def _check(self, more: int) -> None:
        if self._text_bytes + more > self._max_text_bytes:
            raise _too_large(
                f"The text fields of the form take more than {self._max_text_bytes:,} bytes of memory. Send "
                "fewer or shorter ones."
            )


def _too_large(detail: str) -> BodyRefused:
    return BodyRefused(413, "text_too_large", detail)


class FormRequest(Request):
    """Request that reads its multipart form with LimitedParser."""

    scratch: Grant
    spool_bytes: int

    async def _get_form(self, **limits: Any) -> FormData:
        kind, _ = parse_options_header(self.headers.get("Content-Type"))
        if self._form is not None or kind != b"multipart/form-data":
            return await super()._get_form(**limits)
        try:
            async with aclosing(self.stream()) as stream:
                self._form = await LimitedParser(
                    self.headers, stream, self.scratch, self.state.grant, self.spool_bytes, **limits
                ).parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from error
        return self._form


class FormRoute(APIRoute):
    """Route whose request is a FormRequest."""

    spool_bytes = SPOOL_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_form(request: Request) -> Response:
            with request.app.state.scratch.admit(request.state.caller.owner) as scratch:
                form_request = FormRequest(request.scope, request.receive)
                form_request.scratch = scratch
                form_request.spool_bytes = self.spool_bytes
                return await handle(form_request)

        return handle_form


class MemoryFormRoute(FormRoute):
    """Route whose files stay in memory, where they are needed soon."""

    spool_bytes = sys.maxsize
