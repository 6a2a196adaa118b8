"""Connections to PostgreSQL that do not wait for ever.

`statement_timeout` is the server's, and one that hangs (a frozen machine, a stuck disk) keeps no time; TCP
sees nothing amiss as long as the other kernel answers. So the client looks at its own clock too.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Engine, event

T = TypeVar("T")
ANSWER_SECONDS = 6.0
"""More than the server's own limits, which say better what was wrong."""
PING_SECONDS = 1.0
"""For the question whether a pooled connection still works; a new one is tried next."""


class NoAnswer(psycopg.OperationalError):
    """The connection is closed: an answer that comes later would be taken for that of another question."""


class PatientConnection(psycopg.Connection[Any]):
    """One that is closed when the server is silent for too long."""

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        # SQLAlchemy commits by itself, but for its ping of a pooled connection.
        seconds = PING_SECONDS if self.autocommit else ANSWER_SECONDS
        try:
            return super().wait(_within(seconds, gen), *arguments, **options)
        except NoAnswer:
            self.close()
            raise


def be_patient(engine: Engine) -> None:
    """All connections of this engine are PatientConnections."""

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[Any], options: dict[str, Any]
    ) -> PatientConnection:
        return PatientConnection.connect(*arguments, **options)


def _within(seconds: float, gen: PQGen[T]) -> Generator[Any, Any, T]:
    """`gen`, which psycopg wakes at least every 0.1 s, as long as its server says something."""
    until = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                until = time.monotonic() + seconds
            elif time.monotonic() > until:
                raise NoAnswer(f"no answer within {seconds:g} s")
            wanted = gen.send(ready)
    except StopIteration as ended:
        value: T = ended.value
        return value
