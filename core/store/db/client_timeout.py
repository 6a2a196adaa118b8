"""Client-side timeout and check of PostgreSQL connections.

A server that hangs (frozen machine, stuck disk) can't enforce `statement_timeout`, and TCP notices nothing
while the other kernel responds. So the client needs a timeout of its own. Without one, a statement to a
stopped server (SIGSTOP, over TCP) was still waiting after 90 s, although `statement_timeout` was 5 s,
`tcp_user_timeout` 10 s and keepalives were on. A worker's heartbeat would hang as long.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

T = TypeVar("T")
ANSWER_SECONDS = 6.0
"""Timeout of a statement. It is longer than the server's own limits, because their errors say more."""
PING_SECONDS = 1.0
"""Timeout for the check of a pooled connection. A connection that exceeds it is replaced."""


class NoResponse(psycopg.OperationalError):
    """The server did not respond in time.

    The connection is closed. Otherwise a late response would be read as the next statement's.
    """


class PatientConnection(psycopg.Connection[Any]):
    """Connection that is closed when the server is silent for too long."""

    _is_checked = False

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        seconds = PING_SECONDS if self._is_checked else ANSWER_SECONDS
        try:
            return super().wait(self._within(seconds, gen), *arguments, **options)
        except NoResponse:
            self.close()
            raise

    def _within(self, seconds: float, gen: PQGen[T]) -> Generator[Any, Any, T]:
        """Run psycopg's generator, which wakes every 0.1 s. Raise NoResponse after `seconds` of silence."""
        until = time.monotonic() + seconds
        try:
            awaited = next(gen)
            while True:
                ready = yield awaited
                if ready:
                    until = time.monotonic() + seconds
                elif time.monotonic() > until:
                    raise NoResponse(f"no answer within {seconds:g} s")
                awaited = gen.send(ready)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def is_alive(self) -> bool:
        """Return whether the server responds. Call this between transactions."""
        if self.closed:
            return False
        self._is_checked = True
        try:
            self.autocommit = True
            self.execute("SELECT 1")
            self.autocommit = False
        except psycopg.Error:
            return False
        finally:
            self._is_checked = False
        return True


def be_patient(engine: Engine) -> None:
    """Make the engine open connections with a client-side timeout, and check them on leaving the pool."""

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[Any], options: dict[str, Any]
    ) -> PatientConnection:
        return PatientConnection.connect(*arguments, **options)

    @event.listens_for(engine, "checkout")
    def check(connection: PatientConnection, record: object, proxy: object) -> None:
        if not connection.is_alive():
            raise InvalidatePoolError  # the pool opens a new one
