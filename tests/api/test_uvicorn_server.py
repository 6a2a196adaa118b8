"""Connections to a real uvicorn without a complete request."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api.uvicorn_server import HeaderTimeoutProtocol

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
PATIENCE = 0.4
HANGS = 600
"""Timeout of a test (seconds)."""


class Hasty(HeaderTimeoutProtocol):
    head_seconds = PATIENCE


async def slow_answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, and answer after more time than the header timeout."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(
        slow_answer, port=0, log_level="error", lifespan="off", http=Hasty, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(5)


def wait_until_closed(connection: socket.socket) -> None:
    """Wait until the server closes the connection without an answer."""
    connection.settimeout(HANGS)
    with suppress(ConnectionResetError):
        assert connection.recv(1_000) == b""


@pytest.mark.parametrize("start", [b"", b"G", HEAD], ids=["nothing", "a byte", "half a head"])
def test_a_connection_without_a_request_is_closed(port: int, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(start)
        wait_until_closed(connection)


def test_a_trickle_of_bytes_does_not_extend_the_timeout(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        until = time.monotonic() + HANGS
        with suppress(ConnectionError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)
                assert time.monotonic() < until


def test_the_header_timeout_does_not_cut_slow_requests(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(HANGS)
        for _ in range(2):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
            time.sleep(1.5 * PATIENCE)
            connection.sendall(b"ab")
            answer = b""
            while not answer.endswith(b"done"):
                answer += connection.recv(1_000)
            assert answer.startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)  # Send half of a third request.
        wait_until_closed(connection)
