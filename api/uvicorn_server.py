"""uvicorn with limits per connection (slow loris, clients that do not read) and a bounded shutdown."""

import asyncio
import os
import resource
import socket
import struct
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from starlette.datastructures import State
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import problem_body

HEAD_SECONDS = 30.0
READ_SECONDS = 30.0
MIN_READ_BYTES = 1_000
"""Minimum bytes of a waiting response that a client reads per `read_seconds`."""
MAX_CONNECTIONS = 4_096
_BUSY = problem_body(
    {}, 503, "busy", "The server has too many open connections. Close some, or try again in 5 s."
)
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 5\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_BUSY), _BUSY)
)
_BYTES_ACKED = 120
"""Offset of `tcpi_bytes_acked` in Linux's struct tcp_info."""


def max_connections() -> int:
    """Return the maximum number of connections, which leaves half of the file descriptors for other use."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


class WatchedProtocol(H11Protocol):
    """uvicorn's h11 protocol with limits on idle clients and on connections.

    - A connection without complete headers after `head_seconds` is closed. uvicorn's own timeout covers only
      the pause between two requests. BodyLimitMiddleware covers the body.
    - A connection is aborted if its client takes less than MIN_READ_BYTES of a waiting response within
      `read_seconds`. Only Linux counts these bytes; elsewhere this limit does not exist.
    - A connection above `max_connections` gets a 503.
    """

    head_seconds = HEAD_SECONDS
    read_seconds = READ_SECONDS
    max_connections = MAX_CONNECTIONS
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _taken = 0
    _taken_at = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(BUSY)
            transport.close()
            return
        self._watch()
        self._check_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()
        if self._read_timer is not None:
            self._read_timer.cancel()

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._rest()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _rest(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _check_reading(self) -> None:
        taken, now = self._bytes_acked(), self.loop.time()
        if taken is None:
            return
        nothing_waits = not self.transport.get_write_buffer_size()
        if nothing_waits or taken >= self._taken + MIN_READ_BYTES:
            self._taken, self._taken_at = taken, now
        elif now - self._taken_at >= self.read_seconds:
            self.transport.abort()
            return
        self._read_timer = self.loop.call_later(self.read_seconds / 3, self._check_reading)

    def _bytes_acked(self) -> int | None:
        """Return the number of bytes that the client's system has received, or None if it is unknown."""
        connection = self.transport.get_extra_info("socket")
        with suppress(AttributeError, OSError, struct.error):  # not Linux, or not TCP
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            return int(struct.unpack_from("Q", info, _BYTES_ACKED)[0])
        return None


DRAIN_SECONDS = 5


class Server(uvicorn.Server):
    """Server that tells the application about its shutdown at once, so that long polls and streams end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        state: State = self.config.app.state  # type: ignore[union-attr]
        state.stopping.set()
        state.event_hub.stop()
        # Threads that download a backbone or read a huge upload would delay the exit by minutes.
        forced_exit = threading.Timer(DRAIN_SECONDS + 2, os._exit, (0,))
        forced_exit.daemon = True
        forced_exit.start()
        super().handle_exit(sig, frame)
