"""The body limit in front of a real FastAPI application, in process and over sockets to uvicorn."""

import asyncio
import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Request, UploadFile
from pydantic import BaseModel
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http import problems
from api.http.forms import form_of
from api.middleware.auth import Caller
from api.middleware.body_limit import ANY_PATH, BodyLimitMiddleware
from core.admission import Budget
from tests.api.service import exchange, listening

LIMIT = 100_000
BOUNDARY = b"----a.Boundary_7"
FORM = b"multipart/form-data; boundary=" + BOUNDARY
calls: list[list[int]] = []


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    head = b"--" + BOUNDARY + b"\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n"
    return head + content + b"\r\n"


END = b"--" + BOUNDARY + b"--"
# The content holds near misses of the boundary, so that only an exact search passes.
FILE = (b"\r\n--" + BOUNDARY[:-1] + b"\r\n--\r\n" + bytes(range(256))) * 20
BODY = part("label", b"cat") + part("images", FILE, "a.jpg") + part("images", FILE, "b.jpg") + END + b"\r\n"


class Upload(BaseModel):
    images: list[UploadFile]
    label: str = ""


class Known:
    """Authentication that knows the caller of every request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = Caller("me", frozenset(), "key")
        await self.app(scope, receive, send)


def make_app(**limits: Any) -> FastAPI:
    app = FastAPI()
    app.state.form_limits = {"max_files": 10, "max_fields": 10}

    @app.post("/form")
    def form(sent: Annotated[Upload, form_of(Upload, {"images"})]) -> list[int]:
        sizes = [len(image.file.read()) for image in sent.images]
        calls.append(sizes)
        return sizes

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.post("/deaf")
    def deaf() -> str:
        return "never reads its body"

    problems.install(app)
    # A client gets its response before the request gives its part back: there is room for two of the largest.
    budgets = {"memory": Budget(12 * LIMIT, retry_after=10), "disk": Budget(12 * LIMIT)}
    app.add_middleware(BodyLimitMiddleware, max_bytes=LIMIT, **{**budgets, **limits})
    app.add_middleware(Known)
    return app


def test_a_body_without_room_is_refused_before_it_is_read() -> None:
    """Its length says so. Else several bodies could end each other half way."""
    middleware = BodyLimitMiddleware(make_app(), LIMIT, Budget(60_000, retry_after=10), Budget(60_000))
    headers = [(b"content-length", b"9000"), (b"content-type", b"text/plain")]
    scope = {"type": "http", "method": "POST", "path": "/raw", "headers": headers, "query_string": b""}
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("The body must not be read.")

    async def send(message: Any) -> None:
        sent.append(message)

    with middleware.memory.hold("", 20_000):
        asyncio.run(middleware(scope, receive, send))
    assert sent[0]["status"] == 503
    assert dict(sent[0]["headers"])[b"retry-after"] == b"10"


Reply = tuple[int, str, dict[str, object]]
Post = Callable[..., Reply]


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with listening(make_app()) as port:
        yield port


def reply_of(response: httpx.Response) -> Reply:
    value = response.json()
    body = value if isinstance(value, dict) else {"ok": value}
    return response.status_code, response.headers["content-type"], body


def over_socket(port: int, chunked: bool) -> Post:
    def post(body: bytes, content_type: bytes = FORM, path: str = "/form") -> Reply:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode() + b"Content-Type: " + content_type + b"\r\n"
        if chunked:
            pieces = [body[i : i + 997] for i in range(0, len(body), 997)]
            packed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            answer = exchange(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + packed + b"0\r\n\r\n")
        else:
            answer = exchange(port, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert answer is not None
        return reply_of(answer)

    return post


@pytest.fixture(params=["in process", "socket", "chunked socket"])
def post(request: pytest.FixtureRequest) -> Post:
    if request.param != "in process":
        return over_socket(request.getfixturevalue("server"), request.param.startswith("chunked"))
    client = TestClient(make_app())

    def send(body: bytes, content_type: bytes = FORM, path: str = "/form") -> Reply:
        headers = {"content-type": content_type.decode("latin-1")}
        return reply_of(client.post(path, content=body, headers=headers))

    return send


def assert_problem(reply: Reply, status: int, code: str) -> None:
    assert reply[:2] == (status, "application/problem+json")
    assert (reply[2]["status"], reply[2]["code"]) == (status, code)
    assert set(reply[2]) == {"type", "title", "status", "detail", "code", "errors", "actions", "request_id"}


@pytest.mark.parametrize("epilogue", [b"", b"\r\n", b"\r\nan epilogue\r\n" + END + b"\r\n"])
def test_data_after_the_final_boundary_is_ignored(post: Post, epilogue: bytes) -> None:
    assert post(BODY.removesuffix(b"\r\n") + epilogue)[2] == {"ok": [len(FILE), len(FILE)]}


def test_quoted_boundary_and_odd_spelling(post: Post) -> None:
    assert post(BODY, b'Multipart/Form-Data; charset=utf-8; boundary="' + BOUNDARY + b'"')[0] == 200


def test_a_cut_form_is_never_taken(post: Post) -> None:
    calls.clear()
    end = BODY.rindex(END)
    cuts = [*range(0, end, 1_000), *range(end - 4, end + len(END))]
    for cut in cuts:
        reply = post(BODY[:cut])
        assert_problem(reply, 400, "truncated_body")
    assert calls == []


def test_a_cut_connection_is_never_taken(server: int) -> None:
    """The client declares the whole body and disconnects."""
    calls.clear()
    head = b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: " + FORM + b"\r\n"
    for cut in range(0, len(BODY), 1_000):
        promised = head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:cut]
        chunk = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY[:cut]
        for request in (promised, chunk):
            answer = exchange(server, request, half_close=True)
            assert answer is None or answer.status_code >= 400
    assert calls == []


@pytest.mark.parametrize("body", [b"", b"a preamble and nothing else\r\n", b"\r\n\r\n", END[:-1], b"x" + END])
def test_no_part_and_no_end(post: Post, body: bytes) -> None:
    assert post(body)[0] == 400


def test_size_limit(post: Post) -> None:
    def form(size: int) -> bytes:
        overhead = len(part("images", b"", "a.jpg") + END)
        return part("images", bytes(size - overhead), "a.jpg") + END

    calls.clear()
    assert post(form(LIMIT))[0] == 200
    assert len(calls) == 1
    assert_problem(post(form(LIMIT + 1)), 413, "request_too_large")
    assert_problem(post(bytes(LIMIT + 1), b"application/octet-stream", "/raw"), 413, "request_too_large")
    assert len(calls) == 1


def test_a_content_length_above_the_limit_is_refused_at_once(server: int) -> None:
    head = b"POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server), timeout=300) as connection:
        connection.sendall(head)  # The server refuses before the first byte of the body.
        raw = connection.recv(65_536)
    assert raw.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in raw.lower()


def test_bodies_held_in_memory_have_a_limit_of_their_own() -> None:
    client = TestClient(make_app(memory=Budget(6_000)))
    assert client.post("/raw", content=bytes(1_000)).status_code == 200
    for body in (bytes(1_001), iter([bytes(600), bytes(600)])):
        refused = client.post("/raw", content=body, headers={"content-type": "application/json"})
        assert refused.status_code == 413
        assert "1,000 bytes" in refused.json()["detail"]
        assert "multipart/form-data, which may have 3,000" in refused.json()["detail"]
    client = TestClient(
        make_app(memory=Budget(6_000), memory_paths=re.compile("/raw"), upload_paths=ANY_PATH)
    )
    assert client.post("/form", content=BODY, headers={"content-type": FORM.decode()}).status_code == 200


def at_a_pace(pieces: Sequence[bytes], pause: float) -> tuple[int, Any]:
    """Return status and body of the answer to a form that arrives in these pieces and then stalls."""
    app = make_app()
    sent: list[Any] = []

    async def run() -> None:
        waiting = list(pieces)

        async def receive() -> dict[str, object]:
            if not waiting:
                await asyncio.sleep(60)
            await asyncio.sleep(pause)
            body = waiting.pop(0)
            return {"type": "http.request", "body": body, "more_body": body[-4:] != END[-2:] + b"\r\n"}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/form", "query_string": b""}
        await app({**scope, "headers": [(b"content-type", FORM)]}, receive, send)  # type: ignore[arg-type]

    asyncio.run(run())
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_stalled_upload_is_ended_and_a_steady_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.middleware.body_limit.IDLE_SECONDS", 0.2)
    calls.clear()
    status, problem = at_a_pace([BODY[:5_000]], 0)
    assert (status, problem["code"]) == (408, "upload_too_slow")
    assert "Nothing was stored. Send it again" in problem["detail"]
    assert calls == []
    # An upload may take far longer than the idle limit.
    pieces = [BODY[i : i + 1_500] for i in range(0, len(BODY), 1_500)]
    assert 0.05 * len(pieces) > 0.3
    assert at_a_pace(pieces, 0.05)[0] == 200
