"""Responses while the service is loaded, and the handover to it."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.starting import StartingApp
from api.uvicorn_server import listen
from clipcite.types.health import Preparing, Readiness
from core.settings import Settings
from tests.service.running import ROOT, wait_for


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen("127.0.0.1", 0) as opened:
        yield opened


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[httpx.Client]:
    """A service that is being loaded."""
    loaded = threading.Event()

    def load() -> FastAPI:
        loaded.wait()
        return FastAPI()

    with TestClient(StartingApp(Settings(data=tmp_path), load)) as client:
        yield client
        loaded.set()


def test_a_page_for_people_and_503_for_programs(starting: httpx.Client) -> None:
    for path in ("/", "/docs", "/?x=1"):
        shown = starting.get(path)
        assert (shown.status_code, shown.headers["retry-after"]) == (503, "2")
        assert "<h1>Preparing the model</h1>" in shown.text
        assert "script-src 'self'" in shown.headers["content-security-policy"]
    for response in (
        starting.post("/classify", content=b"x" * 300_000),
        starting.delete("/models/m"),
        starting.get("/openapi.json"),
    ):
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "starting"
    assert starting.get("/page/starting.js").headers["content-type"].startswith("text/javascript")
    assert starting.get("/page/../starting.py").status_code == 503


def test_the_process_lives_and_is_preparing(starting: httpx.Client) -> None:
    assert starting.get("/healthz").json() == {"status": "ok"}
    response = starting.get("/readyz")
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert Readiness.model_validate(response.json()).preparing == Preparing(what="Loading the service")


def test_the_loaded_service_responds_within_its_lifespan(tmp_path: Path) -> None:
    seen = list[str]()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        seen.append("started")
        yield
        seen.append("stopped")

    def load() -> FastAPI:
        service = FastAPI(lifespan=lifespan)
        service.add_api_route("/jobs", lambda: seen)
        return service

    with TestClient(StartingApp(Settings(data=tmp_path), load)) as client:
        wait_for(lambda: client.get("/jobs").status_code == 200)
        assert client.get("/jobs").json() == ["started"]
    assert seen == ["started", "stopped"]


@pytest.mark.parametrize("inherited", [False, True])
def test_answers_on_a_kept_connection_are_not_delayed(listener: socket.socket, inherited: bool) -> None:
    """asyncio must turn off Nagle's algorithm, even for the socket that `clipcite serve` hands over."""
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


@pytest.mark.slow
def test_a_precision_that_the_device_lacks_ends_the_start(tmp_path: Path, migrated: Path) -> None:
    shutil.copy(migrated, tmp_path / "clipcite.db")
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
    assert ended.stderr.splitlines()[-1] == (
        "CLIPCITE_SERVING_PRECISION can't be fp16: fp16 needs a GPU. On a CPU use fp32 or bf16."
    )
