"""The real application on real storage, with helpers shared by the tests of this folder."""

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from api.app import create_app
from api.uvicorn_server import WatchedProtocol
from core.settings import Settings
from core.store.db.session import Database
from core.store.db.tables import Job, JobEvent, JobImage
from core.store.errors import DatabaseUnavailable, StorageUnavailable
from core.store.jobs import lifecycle
from core.store.storage import installation
from core.store.storage.blobs import Blobs
from tests.api import crafted
from tests.lent import lent

URL = "http://127.0.0.1:8000"  # Without keys the Host header must name this machine.
PROBLEM_KEYS = {"type", "title", "status", "detail", "code", "errors", "actions", "request_id"}
JOB_KEYS = {
    *("id", "object", "name", "status", "cancel_requested", "created_at", "started_at", "finished_at"),
    *("config", "classes", "queue_position", "attempts", "progress", "model_id", "metrics", "warnings"),
    *("error", "request_id", "promoted", "not_promoted"),
}
MODEL_KEYS = {
    *("id", "object", "name", "version", "aliases", "job_id", "backbone", "trained_classes", "alpha"),
    *("templates", "prompts", "bytes", "delta_format", "created_at", "created_by", "metrics"),
    *("promoted", "not_promoted", "evaluated"),
}

File = tuple[str, bytes]
Body = dict[str, Any]


@dataclass
class Service:
    settings: Settings
    app: FastAPI
    client: TestClient
    temp: Path
    """Folder of spooled uploads."""

    @property
    def database(self) -> Database:
        database: Database = self.app.state.database
        return database

    @property
    def blobs(self) -> Blobs:
        blobs: Blobs = self.app.state.blobs
        return blobs

    def adapt(self, **fields: Any) -> httpx.Response:
        return self.client.post("/adapt", **form(**fields))

    def accepted(self, **fields: Any) -> Body:
        response = self.adapt(**fields)
        assert response.status_code == 202, response.text
        body: Body = response.json()
        return body

    def stored(self) -> list[str]:
        """List everything that an upload may leave behind: rows, blobs and temporary files."""
        with self.database.read() as session:
            rows = [f"row {row}" for table in (Job, JobImage) for row in session.scalars(select(table.id))]
            rows += [f"event of {row}" for row in session.scalars(select(JobEvent.job_id))]
        blobs = [f"blob {blob.key}" for blob in self.blobs.list("") if blob.key != installation.KEY]
        temp = [f"temporary {name}" for name in self.temp_files()]
        return [*rows, *blobs, *temp]

    def temp_files(self) -> list[str]:
        """List the temporary files of requests."""
        scratch = self.settings.scratch()
        folders = (self.temp, scratch) if scratch.is_dir() else (self.temp,)
        return [path.name for folder in folders for path in folder.iterdir()]

    def left_behind(self) -> list[str]:
        """List what is stored, then remove it, for tests that share an application."""
        found = self.stored()
        with self.database.write() as session:
            for job in session.scalars(select(Job)).all():
                lifecycle.delete(session, job.id, owner=job.owner)
        for top in self.blobs.folders(""):
            self.blobs.delete_prefix(top)
        for path in self.temp.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return found


@contextmanager
def service(data: Path, backbone: str, **given: Any) -> Iterator[Service]:
    """Open the application on the migrated database of `data`. The model is loaded at its first use.

    The storage has its id, as after a start.
    """
    temp = data.parent / f"{data.name}-temp"
    temp.mkdir(exist_ok=True)
    settings = Settings(data=data, cache=data / "cache", backbone=backbone, **given)
    with lent(), pytest.MonkeyPatch.context() as patch:
        app = create_app(settings)
        app.state.serving.engine.wait_seconds = 600  # a busy machine is not a failure
        with suppress(DatabaseUnavailable, StorageUnavailable):
            installation.check(app.state.database, app.state.blobs, bind=True)
        patch.setattr("tempfile.tempdir", str(temp))
        yield Service(settings, app, TestClient(app, URL, raise_server_exceptions=False), temp)
    app.state.serving.close()
    app.state.database.close()


@contextmanager
def uvicorn_with(app: Any, listener: socket.socket | None = None, **options: Any) -> Iterator[uvicorn.Server]:
    """Run a real uvicorn, by default on a port of its own."""
    usual = {"port": 0, "log_level": "error", "lifespan": "off", "http": WatchedProtocol}
    server = uvicorn.Server(uvicorn.Config(app, **{**usual, **options}))
    sockets = None if listener is None else [listener]
    thread = threading.Thread(target=server.run, args=[sockets], daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(600)


@contextmanager
def listening(app: Any, **options: Any) -> Iterator[int]:
    """Yield the port of a real uvicorn, for bodies that no client library sends."""
    with uvicorn_with(app, **{"timeout_graceful_shutdown": 1, **options}) as server:
        yield server.servers[0].sockets[0].getsockname()[1]


def form(
    *,
    images: Sequence[File] = (),
    labels: Sequence[str] = (),
    test_images: Sequence[File] = (),
    test_labels: Sequence[str] = (),
    archive: bytes | None = None,
    config: object = None,
    **fields: str,
) -> dict[str, Any]:
    """Return a multipart form for httpx. A `config` of type str is sent unchanged, any other as JSON."""
    parts: list[tuple[str, Any]] = [("images", image) for image in images]
    parts += [("test_images", image) for image in test_images]
    parts += [("labels", (None, label)) for label in labels]
    parts += [("test_labels", (None, label)) for label in test_labels]
    if archive is not None:
        parts.append(("archive", ("images.zip", archive)))
    if config is not None:
        parts.append(("config", (None, config if isinstance(config, str) else json.dumps(config))))
    parts += [(name, (None, value)) for name, value in fields.items()]
    return {"files": parts}


def shots(classes: Sequence[str] = ("red fox", "badger"), each: int = 4) -> dict[str, Any]:
    """Return valid, distinct images and their labels."""
    pairs = [
        (name, f"{c}-{i}.jpg", crafted.jpeg(100 * c + i))
        for c, name in enumerate(classes)
        for i in range(each)
    ]
    return {"images": [(file, data) for _, file, data in pairs], "labels": [name for name, _, _ in pairs]}


def assert_problem(
    response: httpx.Response, status: int, code: str, says: str = "", *, errors: Sequence[Body] | None = None
) -> Body:
    """Assert and return an RFC 9457 problem whose detail is one or more sentences.

    Args:
        says: regular expression that the detail must match.
        errors: minimum content of each entry of `errors`, in order.
    """
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: Body = response.json()
    assert set(body) == PROBLEM_KEYS
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["request_id"]
    assert body["request_id"] == response.headers.get("x-request-id")
    assert body["detail"].rstrip().endswith((".", "?", "…")), body["detail"]
    assert re.search(says, body["detail"]), body["detail"]
    assert "Traceback" not in response.text
    for error in body["errors"]:
        assert set(error) == {"pointer", "file", "code", "detail"}
        assert error["detail"]
    if errors is not None:
        got = [{key: e[key] for key in want} for e, want in zip(body["errors"], errors, strict=True)]
        assert got == list(errors)
    return body


def exchange(
    port: int, request: bytes, *, half_close: bool = False, patience: float = 10
) -> httpx.Response | None:
    """Send raw bytes, close the sending side if requested, and return the answer; None if there is none."""
    raw = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        try:
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The server answered and closed before the whole body was sent.
        try:
            while not _whole(raw) and (chunk := connection.recv(65_536)):
                raw += chunk
        except (ConnectionError, TimeoutError):
            pass
    return parsed(raw) if _whole(raw) else None


def _whole(raw: bytes) -> bool:
    head, _, body = raw.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


def parsed(raw: bytes) -> httpx.Response:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return httpx.Response(int(lines[0].split()[1]), headers=headers, content=body)
