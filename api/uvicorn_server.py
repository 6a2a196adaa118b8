"""uvicorn's protocol with limits on connections, headers and pipelined requests."""

import asyncio
import resource
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http.problems import problem_response

HEAD_SECONDS = 30.0
READ_SECONDS = 30.0
"""Maximum time for which a client reads nothing of its response (seconds)."""
UNSENT_BYTES = 65_536
"""Maximum number of unsent bytes of a response that the system buffers."""
MAX_HEAD_BYTES = 65_536
RECEIVED_BYTES = 16_384
"""Maximum number of bytes that are parsed at once, while other connections wait."""
MAX_PIPELINED = 100
"""Maximum number of requests on a connection that wait for the response to an earlier request."""
MAX_CONNECTIONS = 4_096
_DETAIL = "The server has too many open connections. Close some, or try again in 5 s."
_BUSY = bytes(problem_response({}, 503, "busy", _DETAIL).body)
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 5\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_BUSY), _BUSY)
)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raise OSError if the address cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm only for sockets of this protocol. With it, every response on a
    # kept-alive connection is 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def max_connections() -> int:
    """Return the maximum number of connections. It leaves half of the file descriptors for other use."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


def watch_readers(listener: socket.socket, seconds: float = READ_SECONDS) -> None:
    """Make the system end connections whose clients read nothing, and buffer little for slow clients.

    Both options exist only on Linux. Accepted sockets inherit them.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1_000 * seconds))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class WatchedProtocol(HttpToolsProtocol, asyncio.BufferedProtocol):
    """uvicorn's httptools protocol with limits on callers without a key.

    - A connection above `max_connections` gets a 503.
    - A connection without complete headers after `head_seconds` is closed. uvicorn would keep it for ever.
    - A request whose headers, trailers or chunk extensions exceed MAX_HEAD_BYTES is refused. With uvicorn
      alone, 100 MB of headers need 1 GB of memory, and a header of 100 MB blocks other requests for a minute.
    - A connection with more than MAX_PIPELINED waiting requests is aborted. A read of 256 kB can hold 9,000.
    """

    head_seconds = HEAD_SECONDS
    max_connections = MAX_CONNECTIONS
    _received = memoryview(bytearray(RECEIVED_BYTES))
    """Buffer of all connections. Its content is parsed before another connection receives."""
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Bytes received since the last byte of a body, or the end of headers."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(BUSY)
            transport.close()
            return
        self._watch_head()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        self._head_bytes += nbytes
        self.data_received(bytes(self._received[:nbytes]))
        if len(self.pipeline) > MAX_PIPELINED or (self._head_bytes > MAX_HEAD_BYTES and self._is_answering()):
            self.transport.abort()
        elif self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers of the request are too large.")
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self.scope["state"]["peer"] = self.client  # a trusted proxy may replace `client` with any text
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_head(self) -> None:
        if self._is_answering():
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)
