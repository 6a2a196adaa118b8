"""A local model hub with the answers of huggingface.co that huggingface_hub and this project use.

Large files are redirected to a storage, as the hub does, and named there by their SHA-256.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

CHUNK_BYTES = 65_536
RETRIES = [0] * 5
"""Number of cuts without a new byte after which huggingface_hub gives up."""


@dataclass
class Hub:
    """Repositories by name, and the faults to show."""

    url: str = ""
    storage_url: str = ""
    """URL of the storage of large files, on another host than the hub's."""
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: dict[str, int] = field(default_factory=dict)
    """Status (401 or 403) by gated repository."""
    status: int | None = None
    """Status of every answer, for a hub that is down."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next transfers of large files break."""
    sha: str | None = None
    """What a hostile hub names as the newest commit of every repository."""
    corrupt: bool = False
    """True if the storage alters a byte."""
    ignores_ranges: bool = False
    lists_files: bool = True
    """False for a mirror that names no files in its description of a repository."""
    delay_seconds: float = 0.0
    """Pause after each chunk of a large file."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and range of each request."""
    tokens: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Authorization header of each request."""

    def add(self, repository: str, folder: Path) -> None:
        self.repositories[repository] = folder

    def commit(self, repository: str) -> str:
        """Return the commit, which changes with the files."""
        content = [(name, etag(self.repositories[repository] / name)) for name in self.files(repository)]
        return hashlib.sha1(repr(content).encode()).hexdigest()

    def files(self, repository: str) -> list[str]:
        folder = self.repositories[repository]
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def transfers(self) -> list[str | None]:
        """Return the ranges of the transfers of large files."""
        return [ranged for method, path, ranged in self.requests if (method, path[:5]) == ("GET", "/lfs/")]


def is_large(path: Path) -> bool:
    return path.suffix in {".safetensors", ".bin"}


def etag(path: Path) -> str:
    """Return the SHA-256 of a large file, or git's SHA-1 of a small one."""
    content = path.read_bytes()
    if is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        self.hub.tokens.append((path, self.headers.get("Authorization")))
        if self.hub.status is not None:
            self.reply(self.hub.status)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.describe(found[1], newest=found[2] is None)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            self.list_files(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(.+)/([^/]+)", path):
            self.resolve(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/lfs/([^/]+/[^/]+)/(.+)", path):
            self.send_file(self.hub.repositories[found[1]] / found[2], {})
        else:
            self.reply(404)

    def describe(self, repository: str, *, newest: bool) -> None:
        if repository not in self.hub.repositories:
            self.reply(404, {"X-Error-Code": "RepoNotFound"})
            return
        content: dict[str, Any] = {"id": repository, "sha": self.hub.commit(repository)}
        if newest and self.hub.sha is not None:
            content["sha"] = self.hub.sha
        if self.hub.lists_files:
            content["siblings"] = [{"rfilename": name} for name in self.hub.files(repository)]
        self.reply_json(content)

    def list_files(self, repository: str) -> None:
        entries = []
        for name in self.hub.files(repository):
            path = self.hub.repositories[repository] / name
            size = path.stat().st_size
            entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": etag(path)}
            if is_large(path):
                entry["lfs"] = {"oid": etag(path), "size": size, "pointerSize": 130}
            entries.append(entry)
        self.reply_json(entries)

    def resolve(self, repository: str, revision: str, name: str) -> None:
        if repository not in self.hub.repositories:
            self.reply(404, {"X-Error-Code": "RepoNotFound"})
            return
        if repository in self.hub.gated:
            self.reply(self.hub.gated[repository], {"X-Error-Code": "GatedRepo"})
            return
        commit, path = self.hub.commit(repository), self.hub.repositories[repository] / name
        headers = {"X-Repo-Commit": commit}
        if revision not in {"main", commit, self.hub.sha}:
            self.reply(404, {**headers, "X-Error-Code": "RevisionNotFound"})
        elif not path.is_file():
            self.reply(404, {**headers, "X-Error-Code": "EntryNotFound"})
        elif is_large(path):
            linked = {"X-Linked-Size": str(path.stat().st_size), "X-Linked-Etag": f'"{etag(path)}"'}
            location = {"Location": f"{self.hub.storage_url}/lfs/{repository}/{name}"}
            self.reply(302, {**headers, **linked, **location})
        else:
            self.send_file(path, {**headers, "ETag": f'"{etag(path)}"'})

    def send_file(self, path: Path, headers: dict[str, str]) -> None:
        size, start = path.stat().st_size, 0
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if ranged and not self.hub.ignores_ranges:
            start = int(ranged[1])
            if start >= size:
                self.reply(416)
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
        self.send_response(206 if start else 200)
        for name, value in {**headers, "Content-Length": str(size - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.hub.cuts.pop(0) if is_large(path) and self.hub.cuts else None
        with path.open("rb") as file:
            file.seek(start)
            sent = 0
            while chunk := file.read(CHUNK_BYTES):
                if self.hub.corrupt and is_large(path) and start + sent + len(chunk) == size:
                    chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
                if cut is not None and sent + len(chunk) > cut:
                    self.wfile.write(chunk[: cut - sent])
                    self.close_connection = True
                    return
                self.wfile.write(chunk)
                sent += len(chunk)
                if self.hub.delay_seconds and is_large(path):
                    threading.Event().wait(self.hub.delay_seconds)

    def reply_json(self, content: object) -> None:
        self.reply(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve a hub on loopback, without repositories. HF_ENDPOINT accepts its URL."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    hub.storage_url = f"http://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
