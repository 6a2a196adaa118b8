"""The load clients against a small server: requests sent and results counted."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from benchmarks.serving.clients import load, raw, raw_request


class Echo(BaseHTTPRequestHandler):
    """Server that returns the body; a path ending in `busy` is refused."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503 if self.path.endswith("busy") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def posted(url: str, content: object) -> bytes:
    return raw(httpx.Request("POST", url, json=content))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_each_request_is_sent_once_and_gets_its_own_answer(url: str) -> None:
    requests = [(i, posted(f"{url}/{'busy' if i % 4 == 0 else 'good'}", [i] * 5_000)) for i in range(20)]
    answers: dict[int, tuple[int, bytes]] = {}

    def record(number: int, status: int, body: bytes) -> None:
        answers[number] = status, body

    found = load(url, iter(requests), clients=3, on_answer=record)
    assert found.statuses == {200: 15, 503: 5}
    assert (found.errors, len(found.latencies)) == (5, 20)
    assert sorted(answers) == list(range(20))
    for number, (status, body) in answers.items():
        assert status == (503 if number % 4 == 0 else 200)
        assert json.loads(body) == [number] * 5_000
    assert found.rate == 15 / found.seconds


def test_the_load_ends_in_time(url: str) -> None:
    endless = iter(lambda: (0, posted(url, "again")), None)
    found = load(url, endless, clients=2, seconds=0.2)
    assert found.seconds == 0.2
    assert found.statuses[200] == len(found.latencies) > 0


def test_a_form_has_its_fields_and_images(url: str) -> None:
    bodies: list[bytes] = []
    request = raw_request(url, {"model": "stock"}, [b"one image", b"another"])
    load(url, iter([(0, request)]), clients=1, on_answer=lambda _n, _s, body: bodies.append(body))
    assert all(part in bodies[0] for part in (b'name="model"', b"stock", b"one image", b"another", b"1.jpg"))


def test_a_server_that_hangs_up_is_an_error(url: str) -> None:
    with pytest.raises((RuntimeError, ConnectionError)):
        load(url, iter([(0, b"no HTTP at all\r\n\r\n")]), clients=1)
