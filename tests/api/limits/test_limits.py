"""Small or cheap requests against one real process: each is bounded in memory, CPU time and answer size."""

import json
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api.http.problems import MAX_ERRORS
from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.limits.measured import MB, Measured, measured
from tests.api.service import parsed

pytestmark = pytest.mark.slow  # one process of the API, and its CPU time


@dataclass
class Api:
    measured: Measured
    port: int
    log: Path

    def post(self, path: str, body: bytes, kind: str = "application/json") -> httpx.Response:
        """Return the answer, even if the connection closed before the whole body was sent."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n"
        raw = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=600) as connection:
            with suppress(OSError):
                connection.sendall(head.encode())
                for start in range(0, len(body), MB):
                    chunk = memoryview(body)[start : start + MB]
                    connection.sendall(b"%x\r\n" % len(chunk))
                    connection.sendall(chunk)
                    connection.sendall(b"\r\n")
                connection.sendall(b"0\r\n\r\n")
            with suppress(OSError):
                while not _is_whole(raw) and (received := connection.recv(65_536)):
                    raw += received
        return parsed(raw)

    def form(self, path: str, body: bytes) -> httpx.Response:
        return self.post(path, body, "multipart/form-data; boundary=b")

    def growth(self, send: Callable[[], httpx.Response]) -> tuple[httpx.Response, int]:
        response, growth, _ = self.measured.cost(send)
        return response, growth


def _is_whole(raw: bytes) -> bool:
    head, end, body = raw.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end and lengths) and len(body) >= int(lengths[0].split()[1])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, migrated: Path, backbone: Backbone) -> Iterator[Api]:
    data = tmp_path_factory.mktemp("limits")
    (data / "clipcite.db").write_bytes(migrated.read_bytes())
    with (data / "log").open("wb") as log, measured(data, backbone, log) as service:
        made = Api(service, int(service.url.rpartition(":")[2]), data / "log")
        assert made.post("/classify", honest(10_000)).status_code == 200
        yield made


def honest(size: int) -> bytes:
    """Build a valid JSON request of about this size, most of it after the end of the images."""
    image = crafted.jpeg()
    images = max(1, min(64, size // 400_000))
    padded = image + bytes(max(0, size * 3 // 4 // images - len(image)))
    encoded = b64encode(padded).decode()
    return json.dumps({"class_names": ["a", "b"], "images": [{"base64": encoded}] * images}).encode()


def honest_form(size: int) -> bytes:
    """Build a valid form of about this size: images with their labels."""
    pair = part("labels", b"cat") + image_part(), part("labels", b"dog") + image_part()
    return b"".join(pair * max(1, min(2_500, size // len(b"".join(pair))))) + END


def part(name: str, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)


def image_part() -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    return head + crafted.jpeg() + b"\r\n"


END = b"--b--\r\n"
UNKNOWN = b"".join(b',"%x":1' % i for i in range(30_000))
WORST: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    # Name: path, kind of body, body. test_attacks.py has more of them.
    "bad names": (
        "/classify",
        "json",
        lambda: b'{"images":[],"class_names":[' + b"0," * 90_000 + b"0]}",
    ),
    "unknown fields": ("/classify", "json", lambda: b'{"class_names":["a"]' + UNKNOWN + b"}"),
    "config of many values": (
        "/adapt",
        "form",
        lambda: part("config", b'{"prompts":[' + b"[]," * 300_000 + b"[]]}") + image_part() + END,
    ),
    "config of wrong prompts": (
        "/adapt",
        "form",
        lambda: part("config", b'{"prompts":{"a":1' + UNKNOWN + b"}}") + image_part() + END,
    ),
    "unknown form fields": (
        "/adapt",
        "form",
        lambda: b"".join(part(f"{i:x}" * 200, b"") for i in range(4_000)) + image_part() + END,
    ),
}


@pytest.mark.parametrize("name", WORST)
def test_a_refusal_is_short_and_cheap(api: Api, name: str) -> None:
    path, kind, make = WORST[name]
    body = make()
    sent = "multipart/form-data; boundary=b" if kind == "form" else "application/json"
    if kind == "form":
        usual, _, allowed = api.measured.cost(lambda: api.form("/adapt?dry_run=true", honest_form(len(body))))
    else:
        usual, _, allowed = api.measured.cost(lambda: api.post("/classify", honest(len(body))))
    assert usual.status_code == 200
    response, growth, spent = api.measured.cost(lambda: api.post(path, body, sent))
    assert response.status_code in {413, 422}, response.text[:1_000]
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) <= 64_000
    assert len(response.json()["errors"]) <= MAX_ERRORS + 1
    assert growth <= 4 * len(body) + 32 * MB
    assert spent <= 2 * allowed + 0.05  # The clock ticks every 0.01 s.


def test_valid_json_of_very_many_values_is_refused_before_it_is_parsed(api: Api) -> None:
    body = b'{"class_names":["a"],"images":[' + b'{"base64":""},' * 3_000_000 + b'{"base64":""}]}'
    response, growth = api.growth(lambda: api.post("/classify", body))
    assert (response.status_code, response.json()["code"]) == (413, "too_many_values")
    assert growth <= 3 * len(body) + 32 * MB


def test_malformed_requests_write_nothing_to_the_log(api: Api) -> None:
    before = api.log.read_bytes()
    for head in (b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", api.port), timeout=600) as connection:
                connection.sendall(head)
                assert connection.recv(1_000)
    assert api.log.read_bytes() == before


def test_a_large_honest_body_passes(api: Api) -> None:
    body = honest(20 * MB)
    response, growth = api.growth(lambda: api.post("/classify", body))
    assert response.status_code == 200
    assert growth <= 4 * len(body) + 32 * MB


TEXTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "long labels": ("/adapt", lambda: part("labels", b"x" * MB) * 30),
    "rare characters": ("/adapt", lambda: part("labels", "\U0001f600".encode() + b"x" * 9_900) * 3_000),
    "long names of files": (
        "/adapt",
        lambda: b"".join(
            b'--b\r\nContent-Disposition: form-data; name="images"; filename="%s"\r\n\r\nx\r\n'
            % (b"x" * 3_900)
            for _ in range(5_000)
        ),
    ),
    "an import": ("/models", lambda: part("backbone", b"x" * MB) * 30),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_in_forms_is_limited(api: Api, name: str) -> None:
    path, make = TEXTS[name]
    body = make() + END
    assert len(body) > 15 * MB
    response, growth = api.growth(lambda: api.form(path, body))
    assert (response.status_code, response.json()["code"]) == (413, "text_too_large"), response.text
    assert growth <= 20 * MB


@pytest.mark.parametrize("field", ["config", "labels"])
def test_honest_text_passes(api: Api, field: str) -> None:
    prompts = {f"class {i}": [f"a photo of {i} {j}".ljust(90) for j in range(10)] for i in range(900)}
    value = json.dumps({"prompts": prompts}).encode() if field == "config" else b"x" * 9_999
    assert field == "labels" or len(value) > 800_000
    response = api.form("/adapt?dry_run=true", part(field, value) + image_part() + END)
    assert (response.status_code, response.json()["code"]) in {
        (422, "label_count"),
        (422, "invalid_class_names"),
    }
