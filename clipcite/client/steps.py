"""What an operation asks of the wire. An operation is a generator that yields steps and is sent what came
of them, so that it is written once for the sync and the async client."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from clipcite.client.request import Request

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send it; an Answer comes back, or APIConnectionError is raised."""

    request: Request


@dataclass(frozen=True)
class Open:
    """As Send, but of an answer of 200 the body is left to be read. One is open at a time."""

    request: Request


@dataclass(frozen=True)
class Read:
    """The next bytes of what is open, None at its end; or APIConnectionError."""


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Give:
    """Hand this on to whoever iterates."""

    value: Any


Step = Send | Open | Read | Sleep | Give
Steps = Generator[Step, Any, T]
