"""What an operation asks of the wire. An operation is a generator that yields steps and is sent what came
of them, so that it is written once for the sync and the async client."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from clipcite.client.multipart import OnUpload

T = TypeVar("T")


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


@dataclass(frozen=True)
class Send:
    """Send it; an Answer comes back, or ServiceUnreachable is raised."""

    request: Request


@dataclass(frozen=True)
class Open:
    """As Send, but of an answer of 200 the body is left to be read. One is open at a time."""

    request: Request


@dataclass(frozen=True)
class Read:
    """The next bytes of what is open, None at its end; or ServiceUnreachable."""


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Give:
    """Hand this on to whoever iterates."""

    value: Any


Step = Send | Open | Read | Sleep | Give
Steps = Generator[Step, Any, T]
