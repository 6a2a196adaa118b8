"""Connections to a real uvicorn without a complete request."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import ClassVar

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from api.uvicorn_server import WatchedProtocol, listen, watch_readers
from tests.api.service import listening, uvicorn_with
from tests.service.running import wait_for

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
    with listening(slow_answer, http=Hasty, timeout_keep_alive=60) as port:
        yield port


def wait_until_closed(connection: socket.socket) -> None:
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


PAGE_BYTES = 30_000_000
"""More than the buffers of both sides hold."""


async def large_answer(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", str(PAGE_BYTES).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(PAGE_BYTES // 50_000):
        await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
    await send({"type": "http.response.body"})


@contextmanager
def large_answers() -> Iterator[tuple[int, uvicorn.Server]]:
    with listen("127.0.0.1", 0) as listener:
        watch_readers(listener, 4 * PATIENCE)
        with uvicorn_with(large_answer, listener, http=FewConnections) as server:
            yield listener.getsockname()[1], server


def reader(port: int, buffer: int = 2_048) -> socket.socket:
    """Return a connection with a small buffer that has sent a request."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", port))
    connection.settimeout(HANGS)
    connection.sendall(HEAD + b"\r\n")
    return connection


def wait_for_connections(server: uvicorn.Server, wanted: int) -> None:
    wait_for(lambda: len(server.server_state.connections) == wanted)


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off_and_a_slow_one_is_served() -> None:
    with large_answers() as (port, server), ExitStack() as stack:
        stuck = [stack.enter_context(reader(port)) for _ in range(5)]
        slow = stack.enter_context(reader(port, 32_768))
        wait_for_connections(server, 6)
        while len(server.server_state.connections) > 1:
            assert slow.recv(8_000)
            time.sleep(0.02)
        for _ in range(200):  # longer than the timeout
            assert slow.recv(8_000)
            time.sleep(0.02)
        for connection in stuck:
            received = 0
            with suppress(ConnectionResetError):
                while data := connection.recv(100_000):
                    received += len(data)
            assert received < PAGE_BYTES
        rest = 0
        while rest < PAGE_BYTES - 5_000_000 and (data := slow.recv(1_000_000)):
            rest += len(data)
        assert rest >= PAGE_BYTES - 5_000_000
    assert not server.server_state.tasks


def test_a_connection_too_many_gets_503_and_the_others_are_served() -> None:
    with large_answers() as (port, server), ExitStack() as stack:
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


class Parsing(Hasty):
    """Notes the size of each piece that it parses."""

    sizes: ClassVar[list[int]] = []

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.sizes.append(len(data))


def received_by(data: bytes, times: int = 1) -> WatchedProtocol:
    """Return a connection that has received this, its response not begun."""

    async def feed() -> WatchedProtocol:
        config = uvicorn.Config(slow_answer, log_level="critical")
        config.load()
        protocol = Parsing(config, ServerState(), {})
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
            loop = asyncio.get_running_loop()
            with suppress(ConnectionError, TimeoutError):  # it refuses, or has stopped reading
                for _ in range(times):
                    await asyncio.wait_for(loop.sock_sendall(theirs, data), 1)
                while transport.is_reading() and sum(Parsing.sizes) < times * len(data):
                    await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)
        return protocol

    Parsing.sizes.clear()
    return asyncio.run(feed())


def test_small_chunks_are_parsed_in_small_steps() -> None:
    """Other connections wait for one step, not for all 43,000 chunks: a parser in Python took 130 ms."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    received_by(head + 43_000 * b"1\r\nx\r\n")
    assert len(Parsing.sizes) > 10
    assert max(Parsing.sizes) <= 16_384


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


def test_few_pipelined_requests_wait_in_memory() -> None:
    few = received_by(70 * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert len(few.pipeline) == 69
    many = received_by(20_000 * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert 100 < len(many.pipeline) < 1_000
    assert sum(Parsing.sizes) <= 2 * 16_384
