"""Multipart forms: limits on their text, which is held in memory, and room for their files."""

import sys
import unicodedata
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Annotated, Any

from fastapi import Depends, Form, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from api.http.problems import BodyRefused, InvalidRequest
from clipcite.wire.base import unknown_field
from core.admission import Grant
from core.clip.prompts import BIDI_CONTROLS

MULTIPART = "multipart/form-data"
MAX_FIELD_BYTES = 10_000
MAX_JSON_FIELD_BYTES = 1_000_000
JSON_FIELDS = {"class_names", "classes", "config", "models", "templates", "prompts"}
Text = Annotated[str, Field(max_length=MAX_FIELD_BYTES)]
JsonText = Annotated[str, Field(max_length=MAX_JSON_FIELD_BYTES)]
SPOOL_BYTES = 16 * 1024
"""Size from which an uploaded file is on disk. With 1 MB, thousands of small images would stay in memory."""
MAX_TEXT_BYTES = 10_000_000
TEXT_BYTES_PER_FILE = 2_000
"""Additional text per allowed file, for its headers and its label."""


def check_fields(form: FormData | QueryParams, known: Collection[str], lists: Collection[str] = ()) -> None:
    """Check the names of the fields.

    Args:
        lists: fields that may be sent more than once.

    Raises:
        InvalidRequest: a field is unknown, or was sent more than once.
    """
    counts = Counter(name for name, _ in form.multi_items())
    unknown = [name[:60] for name in counts if name not in known]
    if unknown:
        raise InvalidRequest(
            unknown_field(unknown[0], known),
            [{"pointer": f"/{name}", "detail": "Unknown field."} for name in unknown],
        )
    repeated = [name for name, count in counts.items() if count > 1 and name not in lists]
    if repeated:
        raise InvalidRequest(
            f"The field `{repeated[0]}` was sent more than once. Send it once.",
            [{"pointer": f"/{name}", "detail": "Sent more than once."} for name in repeated],
        )


def form_of(kind: type[BaseModel], lists: Collection[str] = ()) -> Any:
    """Return the dependency on a form without unknown fields and, except for `lists`, repeated ones."""

    async def read(request: Request, form: Annotated[kind, Form(media_type=MULTIPART)]) -> Any:  # type: ignore[valid-type]
        check_fields(await request.form(), kind.model_fields, lists)  # parsed already
        return form

    return Depends(read)


def is_form(content_type: str) -> bool:
    """Return whether this is the content type of a multipart form."""
    return parse_options_header(content_type)[0] == MULTIPART.encode()


def display_name(name: str) -> str:
    """Return a client's file name for display: printable, at most 200 characters. Never use it as a path."""
    if len(name) > 200:
        name = f"{name[:60]}…{name[-139:]}"
    hidden = {"Cc", "Cs", "Zl", "Zp"}
    return "".join("\ufffd" if unicodedata.category(c) in hidden or c in BIDI_CONTROLS else c for c in name)


class _FormParser(MultiPartParser):
    """Starlette's parser, with limits on each text field and on the sum of all, whose memory counts."""

    spool_max_size = SPOOL_BYTES
    file_bytes = SPOOL_BYTES
    """Memory that counts for each file."""
    is_complete = False
    text_bytes = 0

    def __init__(self, memory: Grant, headers: Headers, stream: Any, **limits: Any) -> None:
        super().__init__(headers, stream, max_part_size=MAX_TEXT_BYTES, **limits)
        self.memory = memory

    def on_part_end(self) -> None:
        super().on_part_end()
        name, value = self.items[-1]
        # A single wide character makes every character of a str take up to 4 bytes.
        size = sys.getsizeof(name)
        if isinstance(value, str):
            size += sys.getsizeof(value)
            limit = MAX_JSON_FIELD_BYTES if name in JSON_FIELDS else MAX_FIELD_BYTES
            if len(value.encode()) > limit:
                raise _too_large(
                    f"The form field {name[:60]!r} exceeds {limit:,} bytes. Shorten it. If it is a file, "
                    "send it with a file name."
                )
        else:
            size += sys.getsizeof(value.filename) + sum(map(len, chain(*value.headers.raw)))
        self.text_bytes += size
        most = max(MAX_TEXT_BYTES, TEXT_BYTES_PER_FILE * int(self.max_files))
        if self.text_bytes > most:
            raise _too_large(
                f"The text fields of the form take more than {most:,} bytes of memory. Send fewer or shorter "
                "ones."
            )
        self.memory.take(bytes=size if isinstance(value, str) else size + self.file_bytes)

    def on_end(self) -> None:
        self.is_complete = True


class _MemoryFormParser(_FormParser):
    spool_max_size = sys.maxsize
    file_bytes = 0  # all bytes of the form count already


def _too_large(detail: str) -> BodyRefused:
    return BodyRefused(413, "text_too_large", detail)


class FormRequest(Request):
    """Request that reads its multipart form by `_FormParser`. All bytes of the form count."""

    files: Grant
    parser: type[_FormParser]
    _read: FormData | None = None

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        if not is_form(self.headers.get("content-type", "")):
            return await super().form(**limits)
        if self._read is None:
            parser = self.parser(self.state.grant, self.headers, self._counted(), **limits)
            try:
                read = await parser.parse()
            except MultiPartException as error:
                raise HTTPException(400, error.message) from error
            if not parser.is_complete:  # as a complete form it would have fewer files
                await read.close()
                raise BodyRefused(
                    400,
                    "truncated_body",
                    "The multipart body ends without its closing boundary. The upload was cut off, or the "
                    "boundary in Content-Type is not the one in the body. Nothing was stored. Send it again.",
                )
            self._read = read
        return self._read

    async def _counted(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self.stream():
            self.files.take(bytes=len(chunk))
            yield chunk


class FormRoute(APIRoute):
    """Route whose request is a FormRequest, with files on disk."""

    parser = _FormParser

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_form(request: Request) -> Response:
            form_request = FormRequest(request.scope, request.receive)
            form_request.parser = self.parser
            with self.room(request) as form_request.files:
                return await handle(form_request)

        return handle_form

    def room(self, request: Request) -> AbstractContextManager[Grant]:
        """Hold room for the files of a request."""
        room: AbstractContextManager[Grant] = request.app.state.scratch.admit(request.state.caller.owner)
        return room


class MemoryFormRoute(FormRoute):
    """Route whose files stay in memory, where they are needed soon."""

    parser = _MemoryFormParser

    def room(self, request: Request) -> AbstractContextManager[Grant]:
        return nullcontext(request.state.grant)
