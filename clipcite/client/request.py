"""A call: a request, and how its answer is read. What both kinds of routes have in common."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from clipcite.client.errors import APIStatusError, error_of
from clipcite.client.multipart import OnUpload
from clipcite.client.parse import UnexpectedAnswer, parse
from clipcite.client.types import Readiness


class Body(Protocol):
    @property
    def content_type(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    def chunks(self) -> Any: ...


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    on_upload: OnUpload | None = None
    answer_seconds: float = 60
    """So long without a byte of the answer is no answer."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in small letters."""
    body: bytes = b""


T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    data: list[T]
    next_cursor: str | None


@dataclass(frozen=True)
class Call(Generic[T]):
    request: Request
    read: Callable[[Answer], T]
    gone_is_done: bool = False
    """After a lost answer a 404 means that it was done."""
    twice_is_harmless: bool = True
    """False: it is not sent again where the service may have done it already."""


def ready() -> Call[Readiness]:
    return Call(Request("GET", "/readyz", answer_seconds=10), one(Readiness))


def at(resource: str, name: str, *below: str) -> str:
    """The path of one of them, or of something below it."""
    parts = [name, *below]
    for part in parts:
        if part in {"", ".", ".."}:
            raise ValueError(f"{part!r} is no id and no name.")
    return "/".join(["", resource, *(quote(part, safe="") for part in parts)])


def one(kind: type[T]) -> Callable[[Answer], T]:
    return lambda answer: parse(kind, json_of(answer))


def page(kind: type[T]) -> Callable[[Answer], Page[T]]:
    def read(answer: Answer) -> Page[T]:
        said = json_of(answer)
        if not isinstance(said, dict) or not isinstance(said.get("data"), list):
            raise UnexpectedAnswer("A list was expected. Is the address that of a clipcite service?")
        return Page([parse(kind, item) for item in said["data"]], said.get("next_cursor"))

    return read


def nothing(answer: Answer) -> None:
    """204 has no body."""


def json_of(answer: Answer) -> Any:
    """Raises UnexpectedAnswer."""
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise UnexpectedAnswer(
            "The answer is no JSON. Is the address that of a clipcite service, or of a proxy before it?"
        ) from error


def failure_of(answer: Answer) -> APIStatusError:
    """The exception for an answer that is an error."""
    try:
        said = json_of(answer)
    except UnexpectedAnswer:
        said = None
    return error_of(answer.status, answer.headers, said)
