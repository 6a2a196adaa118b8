"""Responses while the service starts, and the handover of the socket."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.starting_page import StartingPage, listen
from core.clip.models.backbone import Backbone
from tests.service.running import ROOT, wait_for


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen("127.0.0.1", 0) as opened:
        yield opened


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_page_for_people_and_503_for_programs(listener: socket.socket) -> None:
    page = StartingPage(listener)
    with httpx.Client(base_url=url_of(listener)) as client:
        for path in ("/", "/docs", "/?x=1"):
            shown = client.get(path)
            assert (shown.status_code, shown.headers["retry-after"]) == (503, "2")
            assert "<h1>Preparing the model</h1>" in shown.text
            assert "script-src 'self'" in shown.headers["content-security-policy"]
        for response in (
            client.get("/healthz"),
            client.get("/readyz"),
            client.post("/classify", content=b"x" * 300_000),
            client.delete("/models/m"),
            client.get("/page/../starting_page.py"),
        ):
            assert (response.status_code, response.headers["retry-after"]) == (503, "2")
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["code"] == "starting"
        assert client.get("/page/starting.js").headers["content-type"].startswith("text/javascript")
        assert client.get("/page/style.css").status_code == 200
        head = client.head("/")
        assert (head.status_code, head.content) == (503, b"")
    page.stop()


@pytest.mark.parametrize("inherited", [False, True])
def test_answers_on_a_kept_connection_are_not_delayed(listener: socket.socket, inherited: bool) -> None:
    """asyncio must turn off Nagle's algorithm, also for the socket that `clipcite serve` hands over."""
    found: list[int] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def serve() -> None:
        passed = socket.socket(fileno=os.dup(listener.fileno())) if inherited else listener.dup()
        async with await asyncio.start_server(accept, sock=passed):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            assert await reader.read() == b""
            writer.close()

    asyncio.run(serve())
    assert found == [1]


def test_connections_wait_between_two_servers(listener: socket.socket) -> None:
    StartingPage(listener).stop()
    with socket.create_connection(listener.getsockname()) as waiting:
        waiting.settimeout(30)
        waiting.sendall(b"GET /page/icon.svg HTTP/1.0\r\n\r\n")
        page = StartingPage(listener)
        assert waiting.recv(100).startswith(b"HTTP/1.0 200")
        page.stop()


def test_no_connection_is_refused_until_the_api_answers(
    listener: socket.socket, tmp_path: Path, migrated: Path, backbone: Backbone
) -> None:
    (tmp_path / "clipcite.db").write_bytes(migrated.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "--fd", str(listener.fileno())],
        cwd=ROOT,
        env={
            **os.environ,
            "CLIPCITE_DATA": str(tmp_path),
            "CLIPCITE_CACHE": str(tmp_path / "cache"),
            "CLIPCITE_BACKBONE": backbone.name,
        },
        pass_fds=[listener.fileno()],
    )
    codes = []

    def ready() -> bool:
        answer = httpx.get(f"{url_of(listener)}/readyz", timeout=60).json()
        codes.append(answer.get("code") or answer["parts"]["database"]["status"])
        return codes[-1] != "starting"

    try:
        wait_for(ready, unless=lambda: process.poll() is not None)
    finally:
        process.kill()
        process.wait()
    assert codes[0] == "starting"
    assert codes[-1] == "ok"


@pytest.mark.slow
def test_a_precision_that_the_device_lacks_ends_the_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "api"],
        cwd=ROOT,
        env={
            **os.environ,
            "CLIPCITE_DATA": str(tmp_path),
            "CLIPCITE_PORT": "0",
            "CLIPCITE_DEVICE": "cpu",
            "CLIPCITE_SERVING_PRECISION": "fp16",
        },
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert (
        ended.stderr
        == "CLIPCITE_SERVING_PRECISION can't be fp16: fp16 needs a GPU. On a CPU use fp32 or bf16.\n"
    )
