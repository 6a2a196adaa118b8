"""Proxy in front of a service that injects faults on demand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@dataclass
class Flaky:
    """The proxy's faults and records.

    Each request takes the next of `faults`: a status with a `Retry-After`, "cut" (the answer is lost after
    the service has the request), "half" (its body breaks off), "html" (another server's answer), or None.
    """

    url: str
    faults: list[tuple[int, str] | str | None] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def keys(self) -> list[str]:
        """Return the Idempotency-Key of each upload."""
        return [headers["idempotency-key"] for method, _, headers, _ in self.seen if method == "POST"]


@contextmanager
def flaky_proxy(target: str) -> Iterator[Flaky]:
    """Run the proxy in front of `target`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Log nothing."""

        def _handle(self) -> None:
            body = self._body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            flaky.seen.append((self.command, self.path, headers, body))
            fault = flaky.faults.pop(0) if flaky.faults else None
            if isinstance(fault, tuple):
                self._answer(fault[0], {"Retry-After": fault[1]}, b"busy")
                return
            if fault == "html":
                self._answer(418, {"Content-Type": "text/html"}, b"<html>teapot</html>")
                return
            headers = {n: v for n, v in headers.items() if n not in {"host", "transfer-encoding"}}
            answer = httpx.request(
                self.command, target + self.path, headers=headers, content=body, timeout=60, trust_env=False
            )
            if fault == "cut":
                self.close_connection = True
                return
            kept = {n: v for n, v in answer.headers.items() if n in {"content-type", "retry-after"}}
            self._answer(answer.status_code, kept, answer.content, half=fault == "half")

        do_GET = do_POST = do_DELETE = _handle

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, status: int, headers: dict[str, str], body: bytes, half: bool = False) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.close_connection = half

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        flaky = Flaky(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield flaky
        finally:
            server.shutdown()
