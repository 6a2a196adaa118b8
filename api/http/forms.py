"""Multipart forms: limits on their text, which is held in memory."""

import sys
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Collection
from itertools import chain
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, Field, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from api.http.problems import BodyRefused, InvalidRequest, invalid_model
from clipcite.types.base import unknown_field
from core.admission import Take
from core.clip.prompts import BIDI_CONTROLS

MULTIPART = "multipart/form-data"
MAX_FIELD_BYTES = 10_000
MAX_JSON_FIELD_BYTES = 1_000_000
Text = Annotated[str, Field(max_length=MAX_FIELD_BYTES)]
JsonText = Annotated[str, Field(max_length=MAX_JSON_FIELD_BYTES)]
SPOOL_BYTES = 16 * 1024
"""Size above which an uploaded file is on disk. With 1 MB, thousands of small images would be in memory."""
MAX_TEXT_BYTES = 10_000_000
TEXT_BYTES_PER_FILE = 2_000
"""Additional text that is allowed per file, for its headers and its label (bytes)."""


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
            [
                {"pointer": f"/{name}", "detail": "Unknown field. Leave it out, or check its spelling."}
                for name in unknown
            ],
        )
    repeated = [name for name, count in counts.items() if count > 1 and name not in lists]
    if repeated:
        raise InvalidRequest(
            f"The field `{repeated[0]}` was sent more than once. Send it once.",
            [{"pointer": f"/{name}", "detail": "Sent more than once."} for name in repeated],
        )


def is_form(content_type: str) -> bool:
    """Return whether this is the content type of a multipart form."""
    return parse_options_header(content_type)[0] == MULTIPART.encode()


def display_name(name: str) -> str:
    """Return a client's file name for display: printable, at most 200 characters. Never use it as a path."""
    if len(name) > 200:
        name = f"{name[:60]}…{name[-139:]}"
    hidden = {"Cc", "Cs", "Zl", "Zp"}
    return "".join("\ufffd" if unicodedata.category(c) in hidden or c in BIDI_CONTROLS else c for c in name)


class _Parser(MultiPartParser):
    """Starlette's parser, with a limit on the text of the whole form, and a check of its end.

    Starlette limits each field. A config of 1 MB is legitimate, but 200 labels of 1 MB each took 200 MB of
    memory (tests/api/limits/test_limits.py). Without the check, a form that was cut off would seem complete.
    """

    spool_max_size = SPOOL_BYTES
    is_complete = False
    text_bytes = 0
    take: Take

    def on_part_end(self) -> None:
        super().on_part_end()
        name, value = self.items[-1]
        # A single wide character makes every character of a str need up to 4 bytes.
        size = sys.getsizeof(name)
        if isinstance(value, str):
            size += sys.getsizeof(value)
        else:
            size += sys.getsizeof(value.filename) + sum(map(len, chain(*value.headers.raw)))
        self.text_bytes += size
        most = max(MAX_TEXT_BYTES, TEXT_BYTES_PER_FILE * int(self.max_files))
        if self.text_bytes > most:
            raise _too_large(
                f"The text fields of the form take more than {most:,} bytes of memory. Send fewer or shorter "
                "ones."
            )
        self.take(size if isinstance(value, str) or self.spool_max_size > SPOOL_BYTES else size + SPOOL_BYTES)

    def on_end(self) -> None:
        self.is_complete = True


def _too_large(detail: str) -> BodyRefused:
    return BodyRefused(413, "text_too_large", detail)


async def read_form(request: Request, *, in_memory: bool = False, **limits: int) -> FormData:
    """Read a form. The caller must close its files.

    Args:
        in_memory: keep the files in memory, if the whole body already counts towards the memory budget.
        limits: Starlette's limits; by default, the application's.

    Raises:
        BodyRefused: the form breaks a limit or ends too early.
    """
    limits = limits or request.app.state.form_limits
    if not is_form(request.headers.get("content-type", "")):
        return await request.form(**limits)
    parser = _Parser(request.headers, request.stream(), max_part_size=MAX_JSON_FIELD_BYTES, **limits)
    parser.take = request.state.take_memory
    if in_memory:
        parser.spool_max_size = sys.maxsize
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Part exceeded"):
            raise _too_large(
                f"A field of the form exceeds {MAX_JSON_FIELD_BYTES:,} bytes. Shorten it. If it is a file, "
                "send it with a file name."
            ) from error
        raise HTTPException(400, error.message) from error
    if not parser.is_complete:
        await form.close()
        raise BodyRefused(
            400,
            "truncated_body",
            "The multipart body ends without its closing boundary. The upload was cut off, or the boundary "
            "in Content-Type is not the one in the body. Nothing was stored. Send it again.",
        )
    return form


def form_of(kind: type[BaseModel], lists: Collection[str] = ()) -> Any:
    """Return a dependency on a form. Unknown fields are errors, and so are repeated ones except `lists`."""

    async def read(request: Request) -> AsyncIterator[Any]:
        form = await read_form(request)
        try:
            yield _checked(form, kind, lists)
        finally:
            await form.close()

    return Depends(read)


def _checked(form: FormData, kind: type[BaseModel], lists: Collection[str]) -> BaseModel:
    check_fields(form, kind.model_fields, lists)
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():  # browsers also send empty fields
        if isinstance(value, UploadFile) and not (value.filename or value.size):
            continue
        if name in lists:
            fields.setdefault(name, []).append(value)
        elif value != "":
            fields[name] = value
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise invalid_model(error, "") from error


FORMS: dict[str, type[BaseModel]] = {}
JSON_BODIES: dict[str, type[BaseModel]] = {}
"""Forms and JSON bodies that routes describe by name. `api.http.openapi` adds their schemas."""


def form_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a route's form."""
    FORMS[kind.__name__] = kind
    return _body(kind, MULTIPART)


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a route's JSON body, which the route parses itself."""
    JSON_BODIES[kind.__name__] = kind
    return _body(kind, "application/json")


def _body(kind: type[BaseModel], media_type: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}
