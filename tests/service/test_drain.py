"""A real API process that is stopped during requests and streams, and no keys in its logs and files."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from core.store.accounts import api_keys
from core.store.db.session import Database
from tests.api import crafted
from tests.api.streams import connect
from tests.core.store import samples
from tests.servers import free_port
from tests.service.running import PATIENCE, is_ready, wait_for

IN_FLIGHT = 20
OPERATOR = "an operator's key of the environment"
API = tuple[subprocess.Popen[bytes], int]
"""The process, and its port."""


@contextmanager
def api(environment: dict[str, str], data: Path, code: str = "", **settings: str) -> Iterator[API]:
    port = free_port()
    given = {"CLIPCITE_DATA": str(data), "CLIPCITE_PORT": str(port), **settings}
    process = subprocess.Popen(
        [sys.executable, *(("-c", code) if code else ("-m", "api"))],
        env={**os.environ, **environment, **given},
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: is_ready(f"http://127.0.0.1:{port}"))
        yield process, port
    finally:
        process.kill()


@pytest.mark.slow
def test_requests_under_way_at_sigterm_are_answered(
    environment: dict[str, str], migrated: Path, tmp_path: Path
) -> None:
    """All requests are answered, and no submitted key appears in the log or the data."""
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(migrated, data / "clipcite.db")
    database = Database(f"sqlite:///{data / 'clipcite.db'}")
    with database.write() as session:
        good, revoked = (api_keys.create(session, owner="team").key for _ in range(2))
        api_keys.revoke(session, revoked[: api_keys.PREFIX_LENGTH])
    database.close()
    never = f"cc_{'n' * 43}"
    with api(environment, data, CLIPCITE_ADMIN_KEY=OPERATOR) as (process, port):
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=PATIENCE) as http:
            for key in (good, revoked, never, OPERATOR):
                bearer = {"authorization": f"Bearer {key}"}
                known = key in {good, OPERATOR}
                assert http.get("/jobs", headers=bearer).status_code == (200 if known else 401)
                assert http.get("/jobs", params={"key": key, "api_key": key}).status_code == 401
                assert http.get(f"/{key}").status_code == 401
                assert http.get(f"/{key}", headers=bearer).status_code in {401, 403, 404}
            request = http.build_request(
                "POST",
                "/classify",
                headers={"authorization": f"Bearer {good}"},
                data={"class_names": ["fox", "oak"]},
                files=[("images", ("a.jpg", crafted.jpeg()))],
            )
        body = request.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        connections = [
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(IN_FLIGHT)
        ]
        for connection in connections:
            connection.sendall(f"POST /classify HTTP/1.1\r\n{head}\r\n".encode() + body[:-10])
        with httpx.Client(base_url=url, timeout=PATIENCE) as http:
            http.get("/healthz")  # The answer comes after the earlier requests' answers.
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _listens(port))
        answers = []
        for connection in connections:
            connection.sendall(body[-10:])
        for connection in connections:
            with connection:
                answers.append(b"".join(iter(lambda c=connection: c.recv(65_536), b"")))
        said = process.communicate(timeout=PATIENCE)[1].decode()
    assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * IN_FLIGHT
    assert all(json.loads(answer.partition(b"\r\n\r\n")[2])["results"] for answer in answers)
    assert process.returncode in {0, -signal.SIGTERM}  # uvicorn ends itself with the signal that it received.
    stored = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert good[: api_keys.PREFIX_LENGTH].encode() in stored
    for key in (good, revoked, never, OPERATOR):
        assert key not in said
        assert key.encode() not in stored


STUCK = """
import os, pathlib, threading
from unittest import mock
from api.__main__ import main
from api.classify.scoring import ModelRequest
def stuck(*given):
    pathlib.Path(os.environ["BEGUN"]).touch()
    threading.Event().wait(600)
mock.patch.object(ModelRequest, "send", stuck).start()
main()
"""
"""An API whose classifications never end."""


@pytest.mark.slow
def test_a_request_that_outlasts_the_shutdown_is_one_line(
    environment: dict[str, str], migrated: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated, tmp_path / "clipcite.db")
    begun = tmp_path / "begun"
    with api(environment, tmp_path, STUCK, CLIPCITE_LOG="json", BEGUN=str(begun)) as (process, port):
        with ThreadPoolExecutor(1) as pool:
            image, names = {"images": ("a.jpg", crafted.jpeg())}, {"class_names": ["fox", "oak"]}
            url = f"http://127.0.0.1:{port}/classify"
            asked = pool.submit(httpx.post, url, data=names, files=image, timeout=PATIENCE)
            wait_for(begun.exists, unless=asked.done)
            process.send_signal(signal.SIGTERM)
            answer = asked.result()
        said = process.communicate(timeout=PATIENCE)[1].decode()
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    errors = [line for line in map(json.loads, said.splitlines()) if line["level"] == "ERROR"]
    assert len(errors) == 1, said
    assert "Cancel 1 running task" in errors[0]["message"]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.slow
def test_fifty_open_streams_are_ended_properly_at_sigterm(
    environment: dict[str, str], migrated: Path, tmp_path: Path
) -> None:
    """The process's log has one JSON object per line until then."""
    shutil.copy(migrated, tmp_path / "clipcite.db")
    database = Database(f"sqlite:///{tmp_path / 'clipcite.db'}")
    job_id = samples.new_job(database, images=[])  # the storage has no file
    database.close()
    with api(environment, tmp_path, CLIPCITE_LOG="json") as (process, port):

        async def follow() -> list[bytes]:
            streams = await asyncio.gather(*(connect(port, job_id) for _ in range(50)))
            for reader, _ in streams:
                await asyncio.wait_for(reader.readuntil(b"event: log"), PATIENCE)
            process.send_signal(signal.SIGTERM)
            return await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in streams)), PATIENCE)

        rest = asyncio.run(follow())
        said = process.communicate(timeout=PATIENCE)[1].decode()
    assert "Traceback" not in said, said
    assert all(chunk.endswith(b"0\r\n\r\n") for chunk in rest)  # The streams end in order, and are not cut.
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"timestamp", "level", "logger", "process", "message"} == set(lines[0])
    assert any("Shutting down" in line["message"] for line in lines)
