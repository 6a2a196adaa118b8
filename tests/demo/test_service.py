"""The demo's service over real HTTP, and the errors when it does not start."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from clipcite import Job, JobFailed
from clipcite.client.request import parse
from clipcite.wire.jobs import JOB_EXAMPLE
from demo.__main__ import _explained
from demo.service import DemoFailed, Service, _environment

Answer = Callable[[str, bytes], tuple[int, dict[str, Any]]]
UNREADY = {
    "status": "unavailable",
    "parts": {"backbone": {"status": "unavailable", "reason": "Do this."}},
    "version": "0.2.0",
    "backbone": "starter",
    "device": "cpu",
}


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Yield a factory of servers on free ports that map path and body to a status and JSON."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("transfer-encoding"):
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size + 2)[:-2]
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, said = answer(self.path, body)
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Yield a factory of services whose process runs, or has ended with a status."""
    (tmp_path / "log").write_text("first line\nlast line\n")
    processes: list[Popen[bytes]] = []

    def make(url: str, status: int | None = None) -> Service:
        code = "import time; time.sleep(600)" if status is None else f"raise SystemExit({status})"
        processes.append(Popen([sys.executable, "-c", code]))
        if status is not None:
            processes[-1].wait()
        return Service(url, processes[-1], tmp_path / "log", "key")

    yield make
    for process in processes:
        process.kill()
        process.wait()


def test_service_that_ended(service: Callable[..., Service]) -> None:
    with pytest.raises(DemoFailed, match="exited with status 3") as failure:
        service("http://127.0.0.1:9", 3).wait_until_ready(seconds=5, backbone_seconds=5)
    assert "last line" in failure.value.advice


def test_service_that_never_answers(service: Callable[..., Service]) -> None:
    with pytest.raises(DemoFailed, match="not ready after"):
        service("http://127.0.0.1:9").wait_until_ready(seconds=0, backbone_seconds=0)


def test_backbone_without_a_hub(serve: Callable[[Answer], str], service: Callable[..., Service]) -> None:
    with pytest.raises(DemoFailed, match="Do this") as failure:
        service(serve(lambda path, body: (503, UNREADY))).wait_until_ready(seconds=5, backbone_seconds=5)
    assert "starter" in failure.value.advice


def test_a_failed_job_ends_the_demo_with_the_log(service: Callable[..., Service]) -> None:
    error = {"code": "out_of_memory", "detail": "Use a smaller batch_size."}
    said = {**JOB_EXAMPLE, "id": "job_1", "status": "failed", "error": error}
    with (
        pytest.raises(DemoFailed, match=r"Use a smaller batch_size. \(out_of_memory") as failure,
        _explained(service("http://127.0.0.1:9")),
    ):
        raise JobFailed(parse(Job, said))
    assert "last line" in failure.value.advice


def test_a_service_set_up_here_is_left_alone() -> None:
    ours = {
        "PATH": "/bin",
        "CLIPCITE_DATABASE_URL": "postgresql://production",
        "CLIPCITE_ADMIN_KEY": "secret",
        "CLIPCITE_HOST": "0.0.0.0",
        "CLIPCITE_BACKBONE": "ViT-B-16/openai",
    }
    assert _environment(ours) == {"PATH": "/bin", "CLIPCITE_BACKBONE": "ViT-B-16/openai"}
