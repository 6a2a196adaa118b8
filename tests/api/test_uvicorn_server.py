"""Connections to a real uvicorn without a complete request."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api.uvicorn_server import WatchedProtocol, listen

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
PATIENCE = 0.8
HANGS = 600
"""Timeout of a test (seconds)."""


class Hasty(WatchedProtocol):
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
    thread.join(HANGS)


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


class FewConnections(WatchedProtocol):
    max_connections = 8


@pytest.fixture
def small_server() -> Iterator[tuple[int, uvicorn.Server]]:
    config = uvicorn.Config(slow_answer, log_level="error", lifespan="off", http=FewConnections)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1], server
        server.should_exit = True
        thread.join(HANGS)


def wait_for_connections(server: uvicorn.Server, wanted: int) -> None:
    until = time.monotonic() + HANGS
    while len(server.server_state.connections) != wanted:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_connection_too_many_gets_503_and_the_others_are_served(
    small_server: tuple[int, uvicorn.Server],
) -> None:
    port, server = small_server
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(8)]
        wait_for_connections(server, 8)
        with socket.create_connection(("127.0.0.1", port)) as refused:
            refused.settimeout(HANGS)
            answer = refused.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "busy"
        wait_for_connections(server, 8)
        held[0].sendall(HEAD + b"\r\n")
        assert held[0].recv(15) == b"HTTP/1.1 200 OK"
        held[1].close()
        wait_for_connections(server, 7)


@pytest.mark.parametrize(
    "harm",
    [b"X-A: b\r\n" * 100_000, b"X: " + b"x" * 1_000_000],
    ids=["headers", "a header"],
)
@pytest.mark.parametrize(
    "head",
    [b"", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"],
    ids=["head", "trailers"],
)
def test_headers_and_trailers_without_end_are_not_kept(port: int, head: bytes, harm: bytes) -> None:
    with (
        suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=HANGS) as connection,
    ):
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + harm)
        while connection.recv(1_000):
            pass


def test_the_system_ends_connections_of_lost_clients() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
