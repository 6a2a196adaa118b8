"""Multipart forms: limits on their text, which is held in memory, and separate threads for their files."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import Field
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import FormData, Headers, QueryParams, UploadFile
from starlette.exceptions import HTTPException

from api.http.problems import BodyRefused, InvalidRequest
from api.threads import UPLOADS
from clipcite.wire.base import unknown_field
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


class CountedUpload(UploadFile):
    """Uploaded file whose bytes are counted, in memory up to `spool_bytes` and on disk above that."""

    def __init__(
        self, filename: str, headers: Headers, scratch: Grant, memory: Grant, spool_bytes: int
    ) -> None:
        file = cast(BinaryIO, SpooledTemporaryFile(max_size=spool_bytes))  # noqa: SIM115
        super().__init__(file, size=0, filename=filename, headers=headers)
        self._scratch = scratch
        self._memory = memory
        self._spool_bytes = spool_bytes

    async def write(self, data: bytes) -> None:
        before = self.size or 0
        self.size = before + len(data)
        if self.size <= self._spool_bytes:
            self._memory.take(bytes=len(data))
            self.file.write(data)
            return
        in_memory = before <= self._spool_bytes
        self._scratch.take(bytes=self.size if in_memory else len(data))
        await UPLOADS.run(self.file.write, data)
        if in_memory:
            self._memory.take(bytes=-before)


class FormReader:
    """Reader of a multipart form, with limits on each text field and on the sum of all."""

    def __init__(
        self,
        new_file: Callable[[str, Headers], CountedUpload],
        memory: Grant,
        *,
        max_files: float = 1_000,
        max_fields: float = 1_000,
    ) -> None:
        """Prepare to read.

        Args:
            new_file: makes a file with this name and these headers.
            memory: counts the text.
        """
        self._new_file = new_file
        self._memory = memory
        self._max_files = max_files
        self._max_fields = max_fields
        self._max_text_bytes = max(MAX_TEXT_BYTES, TEXT_BYTES_PER_FILE * int(max_files))
        self._text_bytes = 0
        self._files: list[CountedUpload] = []
        self._items: list[tuple[str, str | UploadFile]] = []
        self._complete = False
        # The part that is being read
        self._headers: list[tuple[bytes, bytes]] = []
        self._header = [b"", b""]
        self._name = ""
        self._file: CountedUpload | None = None
        self._text = bytearray()
        self._writes: list[tuple[CountedUpload, bytes]] = []

    async def read(self, boundary: bytes, stream: AsyncIterator[bytes]) -> FormData:
        """Return the form.

        Raises:
            BodyRefused: the form has no usable boundary, is cut off, or breaks a limit.
            HTTPException: it is not a valid form.
            ServerBusy: other requests hold the memory or the disk.
        """
        if not 1 <= len(boundary) <= 200:  # RFC 2046 says 70
            raise BodyRefused(
                400,
                "invalid_boundary",
                "The Content-Type multipart/form-data has no boundary of 1 to 70 characters. Let your HTTP "
                "client write that header.",
            )
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": partial(self._add_to_header, 0),
                "on_header_value": partial(self._add_to_header, 1),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )
        try:
            async for chunk in stream:
                parser.write(chunk)
                for file, data in self._writes:
                    await file.write(data)
                self._writes.clear()
            if not self._complete:  # as a complete form it would have fewer files
                raise BodyRefused(
                    400,
                    "truncated_body",
                    "The multipart body ends without its closing boundary. The upload was cut off, or the "
                    "boundary in Content-Type is not the one in the body. Nothing was stored. Send it again.",
                )
            for file in self._files:
                await file.seek(0)
        except BaseException as error:
            for file in self._files:
                file.file.close()
            if isinstance(error, FormParserError):
                raise HTTPException(400, "Invalid multipart data.") from error
            raise
        return FormData(self._items)

    def _begin_part(self) -> None:
        self._headers = []
        self._file = None
        self._text = bytearray()

    def _add_to_header(self, side: int, data: bytes, start: int, end: int) -> None:
        self._header[side] += data[start:end]

    def _end_header(self) -> None:
        name, value = self._header
        self._headers.append((name.lower(), value))
        self._header = [b"", b""]

    def _end_headers(self) -> None:
        _, options = parse_options_header(dict(self._headers).get(b"content-disposition"))
        if b"name" not in options:
            raise HTTPException(400, 'The Content-Disposition header field "name" must be provided.')
        self._name = _decoded(options[b"name"])
        self._add(sum(len(name) + len(value) for name, value in self._headers))
        if b"filename" in options:
            if len(self._files) >= self._max_files:
                raise HTTPException(400, "Too many files.")
            self._file = self._new_file(_decoded(options[b"filename"]), Headers(raw=self._headers))
            self._files.append(self._file)
            self._items.append((self._name, self._file))
        elif len(self._items) - len(self._files) >= self._max_fields:
            raise HTTPException(400, f"Too many fields. Maximum number of fields is {self._max_fields}.")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._writes.append((self._file, data[start:end]))
            return
        limit = MAX_JSON_FIELD_BYTES if self._name in JSON_FIELDS else MAX_FIELD_BYTES
        length = len(self._text) + end - start
        if length > limit:
            raise _too_large(
                f"The form field {self._name[:60]!r} exceeds {limit:,} bytes. Shorten it. If it is a file, "
                "send it with a file name."
            )
        self._check(length)
        self._text += data[start:end]

    def _end_part(self) -> None:
        if self._file is None:
            value = _decoded(bytes(self._text))
            self._items.append((self._name, value))
            # A single wide character makes every character of a str take up to 4 bytes.
            self._add(sys.getsizeof(self._name) + sys.getsizeof(value))

    def _end(self) -> None:
        self._complete = True

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


def _decoded(text: bytes) -> str:
    """Decode as UTF-8. The charset of the request is ignored: Python decodes some in quadratic time."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _too_large(detail: str) -> BodyRefused:
    return BodyRefused(413, "text_too_large", detail)


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a multipart form, which may be empty, or None for another content type."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary", b"") if kind == b"multipart/form-data" else None


class FormRequest(Request):
    """Request that reads its multipart form by `FormReader`."""

    scratch: Grant
    spool_bytes: int
    _read: FormData | None = None

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        boundary = boundary_of(self.headers.get("content-type", ""))
        if boundary is None:
            return await super().form(**limits)
        if self._read is None:

            def new_file(name: str, headers: Headers) -> CountedUpload:
                return CountedUpload(name, headers, self.scratch, self.state.grant, self.spool_bytes)

            reader = FormReader(new_file, self.state.grant, **limits)
            self._read = await reader.read(boundary, self.stream())
        return self._read


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
