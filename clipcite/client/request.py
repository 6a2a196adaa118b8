"""Requests as data, and the parsing of their responses. Shared by the routes of jobs and models."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from clipcite.client.errors import APIStatusError, InvalidAddress, error_of
from clipcite.client.multipart import OnUpload
from clipcite.client.parse import APIResponseValidationError, M, parse
from clipcite.wire.health import Readiness


class Body(Protocol):
    """A request body that can be read more than once."""

    @property
    def content_type(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    def chunks(self) -> Any: ...


@dataclass(frozen=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    on_upload: OnUpload | None = None
    read_seconds: float = 60
    """Read timeout: maximum time without a byte of the response."""


@dataclass(frozen=True)
class Response:
    """One HTTP response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list."""

    data: list[T]
    next_cursor: str | None


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, the parser of its response, and the rules for retries."""

    request: Request
    read: Callable[[Response], T]
    gone_is_done: bool = False
    """True if a 404 after a lost response means success, as for DELETE."""
    idempotent: bool = True
    """False: no retry if the service may already have carried out the request."""


def ready() -> Call[Readiness]:
    return Call(Request("GET", "/readyz", read_seconds=10), one(Readiness))


def path_of(resource: str, name: str, *below: str) -> str:
    """Return the path of a resource, or of something below it.

    Raises:
        InvalidAddress: a segment is empty, `.` or `..`.
    """
    parts = [name, *below]
    for part in parts:
        if part in {"", ".", ".."}:
            raise InvalidAddress(f"{part!r} is not a valid id or name.")
    return "/".join(["", resource, *(quote(part, safe="") for part in parts)])


def one(kind: type[M]) -> Callable[[Response], M]:
    """Return a parser of responses with one object."""
    return lambda response: parse(kind, json_of(response))


def page(kind: type[M]) -> Callable[[Response], Page[M]]:
    """Return a parser of responses with one page of a list."""

    def read(response: Response) -> Page[M]:
        value = json_of(response)
        if not isinstance(value, dict) or not isinstance(value.get("data"), list):
            raise APIResponseValidationError(
                "The response is not a list. Check that the address is that of a clipcite service."
            )
        return Page([parse(kind, item) for item in value["data"]], value.get("next_cursor"))

    return read


def nothing(response: Response) -> None:
    """Ignore the response: 204 has no body."""


def json_of(response: Response) -> Any:
    """Return the parsed body.

    Raises:
        APIResponseValidationError: the body is not JSON.
    """
    try:
        return json.loads(response.body)
    except ValueError as error:
        raise APIResponseValidationError(
            "The response is not JSON. Check that the address is that of a clipcite service, not of a proxy."
        ) from error


def limited(request: Request, until: float | None) -> Request:
    """Return the request with a read timeout that ends at `until` (monotonic clock), at least 0.5 s."""
    if until is None:
        return request
    return replace(request, read_seconds=min(request.read_seconds, max(0.5, until - time.monotonic())))


def status_error(response: Response) -> APIStatusError:
    """Return the exception for an error response."""
    try:
        body = json_of(response)
    except APIResponseValidationError:
        body = None
    return error_of(response.status, response.headers, body)
