"""Hostile requests over sockets to the real application: each gets an answer, costs no other client, and
leaves nothing.
"""

import base64
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from api.serving.engine import Engine
from tests.api import crafted
from tests.api.service import Service, assert_problem, exchange, listening, shots
from tests.service.running import wait_for

HANGS = 600
"""Timeout of a test (seconds)."""
BOUNDARY = b"harm"
HEAD = b"POST /adapt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=harm\r\n"
END = b"--harm--\r\n"
SETTINGS = {"max_images": 100}


@pytest.fixture(scope="module")
def port(shared: Service) -> Iterator[int]:
    with listening(shared.app) as port:
        yield port


def part(name: str, content: bytes = b"", more: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'.encode()
    return b"--harm\r\n" + disposition + more + b"\r\n\r\n" + content + b"\r\n"


def post(port: int, body: bytes) -> httpx.Response:
    response = exchange(port, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert response is not None
    return response


FILE = b'; filename="a.jpg"'
CROWDS = {
    "10,000 fields": (b"".join(part(f"f{i}") for i in range(10_000)), 400, "bad_request"),
    "10,000 labels": (part("labels", b"cat") * 10_000, 400, "bad_request"),
    "10,000 files": (part("images", b"x", FILE) * 10_000, 413, "too_many_images"),
    "10,000 headers": (
        part("name", b"x", b"".join(b"\r\nX-%d: 1" % i for i in range(10_000))),
        400,
        "bad_request",
    ),
    "a header of 1 MB": (part("name", b"x", b"\r\nX-Long: " + b"x" * 1_000_000), 400, "bad_request"),
    "a name of 1 MB": (part("x" * 1_000_000, b"x"), 400, "bad_request"),
}


@pytest.mark.parametrize("name", CROWDS)
def test_too_many_parts_and_headers_are_refused_early(shared: Service, port: int, name: str) -> None:
    """Before the second half of the body, which never arrives."""
    body, status, code = CROWDS[name]
    half = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2]
    response = exchange(port, half, patience=HANGS)
    assert response is not None
    assert_problem(response, status, code)
    assert shared.stored() == []


@contextmanager
def uploads(port: int, number: int, sent: float) -> Iterator[list[socket.socket]]:
    """Start uploads that have sent this share of their bodies; some of their files are already on disk."""
    images = shots(("red fox", "badger"), each=2)
    large = crafted.jpeg() + bytes(200_000)  # The size exceeds the in-memory limit.
    body = b"".join(part("images", large, FILE) + part("labels", b"cat") for _ in images["images"]) + END
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[: int(sent * len(body))]
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=HANGS))
            connection.sendall(request)
            opened.append(connection)
        yield opened


@pytest.mark.slow
def test_a_hundred_aborted_uploads_leave_nothing(shared: Service, port: int) -> None:
    before = open_files()
    with uploads(port, 100, sent=0.5):
        wait_for(lambda: open_files() >= before + 200)  # Each upload has a connection and a file.
    # A few more than before: database connections stay in their pool.
    wait_for(lambda: shared.stored() == [] and open_files() < before + 50)


def test_a_client_that_leaves_during_its_body_is_not_a_server_error(
    fresh: Service, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with listening(fresh.app) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=HANGS) as connection:
            connection.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        counted = 'http_requests_total{handler="/classify",method="POST",status="%s"}'
        wait_for(lambda: counted % "4xx" in fresh.client.get("/metrics").text)
    assert counted % "5xx" not in fresh.client.get("/metrics").text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("path", ["/classify", "/v1/embeddings"])
def test_prompts_of_a_client_that_has_left_are_given_up(
    fresh: Service, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    begun, left, encoded = threading.Event(), threading.Event(), []
    encode = Engine.encode_text

    def slow(*given: Any, **how: Any) -> Any:
        begun.set()
        assert left.wait(HANGS)
        encoded.append(1)
        return encode(*given, **how)

    monkeypatch.setattr(Engine, "encode_text", slow)
    texts = [f"oak {i}" for i in range(2_000)]
    image = {"base64": base64.b64encode(crafted.jpeg()).decode()}
    body = json.dumps(
        {"class_names": texts[:1_000], "images": [image]}
        if path == "/classify"
        else {"model": "stock", "input": texts}
    ).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
    counted = f'http_requests_total{{handler="{path}",method="POST",status="4xx"}}'
    with listening(fresh.app) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=HANGS) as connection:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert begun.wait(HANGS)
        # The event loop learns of it before this request, which arrives later.
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        left.set()
        wait_for(lambda: counted in fresh.client.get("/metrics").text)
    assert len(encoded) == 1


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counts the entries
