"""One HTTP request as data, and the parsing of responses."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from clipcite.errors import APIStatusError, ClipCiteError, InvalidAddress, error_of

M = TypeVar("M", bound=BaseModel)
OnUpload = Callable[[int, int], None]
"""Called with the bytes sent and the total number of bytes."""
FilePart = tuple[str, tuple[str, bytes | BinaryIO, str]]
"""A file in a form: field, and name, content and media type."""
BINARY, ZIP = "application/octet-stream", "application/zip"


class APIResponseValidationError(ClipCiteError):
    """A response that violates the API contract, from another version of the service or another server."""


@dataclass(frozen=True)
class Request:
    """One HTTP request, and the rules for its retries."""

    method: str
    path: str
    query: Mapping[str, str | None] = field(default_factory=dict)
    """Query parameters. None is not sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    """Body, if it is JSON."""
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Text fields of a form."""
    files: Sequence[FilePart] = ()
    """Files of a form. Each attempt reads open files from the beginning."""
    on_upload: OnUpload | None = None
    """Called while an open file is sent."""
    read_seconds: float = 60
    """Read timeout: maximum time without a byte of the response."""
    idempotent: bool = True
    """False: no retry if the service may already have carried out the request."""

    def until(self, deadline: float | None) -> "Request":
        """Return the request with a read timeout that ends at `deadline` (monotonic clock), if not None."""
        if deadline is None:
            return self
        return replace(self, read_seconds=min(self.read_seconds, max(0.5, deadline - time.monotonic())))

    def watched_files(self) -> list[Any]:
        """Return the files. Open files report to `on_upload`."""
        watch = self.on_upload
        if watch is None:
            return [*self.files]
        return [
            (field, (name, content if isinstance(content, bytes) else _WatchedFile(content, watch), kind))
            for field, (name, content, kind) in self.files
        ]


class _WatchedFile:
    """Open file that reports how much of it was read."""

    def __init__(self, file: BinaryIO, on_upload: OnUpload) -> None:
        self._file = file
        self._on_upload = on_upload
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._on_upload(self._file.tell(), self._size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def path_of(resource: str, name: str, *below: str) -> str:
    """Return the URL path, percent-encoded, of a resource or of something below it.

    Raises:
        InvalidAddress: a segment is empty, `.` or `..`.
    """
    parts = [name, *below]
    for part in parts:
        if part in {"", ".", ".."}:
            raise InvalidAddress(
                f"{part!r} is not a valid id or name. `clipcite models list` and `clipcite jobs list` "
                "show them."
            )
    return "/".join(["", resource, *(quote(part, safe="") for part in parts)])


def parse(kind: type[M], value: Any) -> M:
    """Convert parsed JSON to `kind`.

    Raises:
        APIResponseValidationError: the JSON does not fit.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise APIResponseValidationError(
            f"The response is not a valid {kind.__name__} ({place}{': ' if place else ''}{first['msg']}). "
            "Install the same version of the client and the service."
        ) from error


def parse_list(kind: type[M], body: bytes) -> tuple[list[M], str | None]:
    """Return the items of one page of a list, and the cursor of the next page.

    Raises:
        APIResponseValidationError: the body is not such a page.
    """
    value = json_of(body)
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise APIResponseValidationError(
            "The response is not a list. Check that a clipcite service has this address."
        )
    return [parse(kind, item) for item in value["data"]], value.get("next_cursor")


def json_of(body: bytes) -> Any:
    """Return the parsed body.

    Raises:
        APIResponseValidationError: the body is not JSON.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise APIResponseValidationError(
            "The response is not JSON. Check that a clipcite service has this address, not a proxy."
        ) from error


def status_error(response: httpx.Response) -> APIStatusError:
    """Return the exception for an error response. Its body must have been read."""
    try:
        body = json_of(response.content)
    except APIResponseValidationError:
        body = None
    return error_of(response.status_code, dict(response.headers), body)
