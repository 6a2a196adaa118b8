"""`clipcite label-studio` without Label Studio: who may ask, and what it fetches."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from wsgiref.simple_server import make_server

import httpx
import pytest
from typer.testing import CliRunner

from clipcite import Client
from clipcite.__main__ import app
from clipcite.bridges.label_studio import Backend, Connection, ThreadingServer

TOKEN = "0123456789abcdef0123456789abcdef01234567"
JSON = {"Content-Type": "application/json"}


def backend_of(server: str = "http://127.0.0.1:9", secret: str = "") -> Backend:
    """Return a backend that needs no service."""
    backend = Backend(cast(Client, None), "shoes", server, TOKEN, 0, [], secret)
    backend.version = lambda: "stock"  # type: ignore[method-assign]
    return backend


@pytest.fixture
def backend() -> Backend:
    return backend_of()


@pytest.fixture
def http(backend: Backend) -> Iterator[httpx.Client]:
    """Yield a client of the running backend."""
    with make_server("127.0.0.1", 0, backend, ThreadingServer, Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with httpx.Client(base_url=address, headers=JSON, timeout=600) as client:
            yield client
        server.shutdown()


def setup(http: httpx.Client, **given: Any) -> int:
    return http.post("/setup", json={"access_token": "stolen"}, **given).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example:9090"},
        {"Origin": "https://site.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "203.0.113.5"},
    ],
)
def test_no_request_from_elsewhere(
    http: httpx.Client, backend: Backend, headers: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup(http, headers=headers) == 403
    assert backend.sent_token == ""
    assert "To allow it, start with a --secret." in capsys.readouterr().out
    assert setup(http) == 200
    assert backend.sent_token == "stolen"


def test_the_secret(http: httpx.Client, backend: Backend) -> None:
    """Label Studio sends it as a password, and a webhook in a header. It then may come from elsewhere."""
    backend.secret = "a b"
    for given in (
        {},
        {"auth": ("", "wrong")},
        {"headers": {"Authorization": "Bearer wrong"}},
        {"headers": {"Authorization": "Basic ?"}},
    ):
        assert setup(http, **given) == 403
    assert backend.sent_token == ""
    for given in ({"auth": ("any", "a b")}, {"headers": {"Authorization": "Bearer a b"}}):
        assert setup(http, **given) == 200
    assert setup(http, headers={"Authorization": "Bearer a b", "Host": "backend.example"}) == 200


def test_other_machines_need_the_secret() -> None:
    done = CliRunner().invoke(app, ["label-studio", "--model", "shoes", "--listen", "0.0.0.0:9090"])
    assert done.exit_code == 2
    assert "Set a --secret." in done.stderr


@pytest.mark.parametrize("length", ["16000001", "-1"])
def test_the_size_of_a_body(http: httpx.Client, length: str) -> None:
    """The request is refused before its body is read, which never arrives here."""
    with socket.create_connection(("127.0.0.1", cast(int, http.base_url.port)), timeout=600) as client:
        sent = f"POST /setup HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        client.sendall(sent.encode())
        assert b"413 Content Too Large" in client.recv(100)


@pytest.mark.parametrize(
    "sent", ["", "POST /setup HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
)
def test_a_client_that_sends_nothing_is_left(
    http: httpx.Client, sent: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert Connection.timeout == 60
    monkeypatch.setattr(Connection, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", cast(int, http.base_url.port)), timeout=600) as client:
        client.sendall(sent.encode())
        while client.recv(1000):
            pass
    assert "Traceback" not in capfd.readouterr().err


def test_other_hosts(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"image")
    tokens: list[str | None] = []

    class Images(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Images(*given, directory=tmp_path)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        own, other = (f"http://{host}:{http.server_port}" for host in ("127.0.0.1", "localhost"))
        backend = backend_of(own)
        with pytest.raises(ValueError, match=r"localhost.* is not at .* --allow-host localhost"):
            backend.fetch(f"{other}/a.jpg")
        assert tokens == []
        backend.hosts.append("localhost")
        assert backend.fetch(f"{other}/a.jpg") == backend.fetch("/a.jpg") == b"image"
        assert tokens == [None, f"Token {TOKEN}"]
        http.shutdown()


@pytest.mark.parametrize(
    ("path", "kind", "body", "says"),
    [
        (
            "/predict",
            "application/json",
            {"tasks": [], "label_config": "<View/>"},
            "no <Choices> for an <Image>",
        ),
        ("/webhook", "text/plain", {"action": "START_TRAINING", "project": {"id": 1}}, "action"),
    ],
)
def test_bad_requests(
    http: httpx.Client, backend: Backend, path: str, kind: str, body: Any, says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    answer = http.post(path, content=json.dumps(body), headers={"Content-Type": kind})
    assert answer.status_code == 500
    assert says in answer.json()["error"]
    assert says in capsys.readouterr().out
    assert not backend.training.locked()
