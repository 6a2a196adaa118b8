"""Client-side timeout for PostgreSQL connections.

The server enforces `statement_timeout`, but a server that hangs (frozen machine, stuck disk) does not. TCP
notices nothing while the other kernel responds. The client therefore needs a timeout of its own.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Engine, event

T = TypeVar("T")
ANSWER_SECONDS = 6.0
"""Timeout of a statement. It exceeds the server's own limits, whose errors are more precise."""
PING_SECONDS = 1.0
"""Timeout of the check of a pooled connection. After it a new connection is opened."""


class NoAnswer(psycopg.OperationalError):
    """The server did not respond in time.

    The connection is closed, because a late response would be taken for that of another statement.
    """


class PatientConnection(psycopg.Connection[Any]):
    """Connection that is closed when the server is silent for too long."""

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        # SQLAlchemy uses autocommit only to ping a pooled connection.
        seconds = PING_SECONDS if self.autocommit else ANSWER_SECONDS
        try:
            return super().wait(_within(seconds, gen), *arguments, **options)
        except NoAnswer:
            self.close()
            raise


def be_patient(engine: Engine) -> None:
    """Let the engine open only connections with a client-side timeout."""

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[Any], options: dict[str, Any]
    ) -> PatientConnection:
        return PatientConnection.connect(*arguments, **options)


def _within(seconds: float, gen: PQGen[T]) -> Generator[Any, Any, T]:
    """Run psycopg's generator, which wakes every 0.1 s. Raise NoAnswer after `seconds` of silence."""
    until = time.monotonic() + seconds
    try:
        awaited = next(gen)
        while True:
            ready = yield awaited
            if ready:
                until = time.monotonic() + seconds
            elif time.monotonic() > until:
                raise NoAnswer(f"no answer within {seconds:g} s")
            awaited = gen.send(ready)
    except StopIteration as stop:
        value: T = stop.value
        return value
