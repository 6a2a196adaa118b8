"""Proxy that injects network and storage faults in front of a server."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

SLOW_SECONDS = 0.3
OF_CONNECTION = {"content-length", "connection", "transfer-encoding", "date", "server"}
"""Headers of an answer that the proxy writes itself."""


class Seen(NamedTuple):
    """A request and its fault."""

    method: str
    fault: str
    headers: dict[str, str]
    body: bytes


class Faults:
    """Faults of the next requests, one each, and all requests so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._next: list[tuple[str, str]] = []

    def expect(self, method: str, *faults: str) -> None:
        """Set the faults of the next requests of this method; an empty method is any.

        A number is a status, and a second number its `Retry-After`. `html` is another server's answer.
        `reset` cuts the connection before the request is served, and `lost` loses the answer afterwards.
        `cut` breaks the answer off, `short` passes half of it off as all. `slow` delays, and `hang` exceeds
        every timeout.
        """
        with self._lock:
            self._next += [(method, fault) for fault in faults]

    def take(self, method: str, headers: dict[str, str], body: bytes) -> str:
        with self._lock:
            fault = next((f for f in self._next if f[0] in {method, ""}), (method, "none"))
            if fault in self._next:
                self._next.remove(fault)
            self.seen.append(Seen(method, fault[1], headers, body))
            return fault[1]

    def count(self, method: str, fault: str) -> int:
        """Return the number of requests of this method that had this fault."""
        return sum((one.method, one.fault) == (method, fault) for one in self.seen)


@contextmanager
def faulty(endpoint: str) -> Iterator[Faults]:
    """Run a proxy on loopback in front of `endpoint`."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self._body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault = faults.take(self.command, headers, body)
            if fault[0].isdigit():
                status, _, pause = fault.partition(" ")
                self._answer(int(status), {"retry-after": pause} if pause else {}, b"")
                return
            if fault == "html":
                self._answer(418, {"content-type": "text/html"}, b"<html>teapot</html>")
                return
            if fault in {"reset", "hang"}:
                if fault == "hang":
                    ended.wait(60)
                self.close_connection = True
                return
            if fault == "slow":
                time.sleep(SLOW_SECONDS)
            server = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=300)
            kept = {name: value for name, value in headers.items() if name != "transfer-encoding"}
            server.request(self.command, self.path, body, kept)
            answer = server.getresponse()
            content = answer.read()
            server.close()
            if fault == "lost":
                self.close_connection = True
                return
            told = {name: value for name, value in answer.getheaders() if name.lower() not in OF_CONNECTION}
            if self.command == "HEAD":
                told["content-length"] = answer.getheader("content-length", "0")
            half = content[: len(content) // 2]
            if fault == "cut":
                told["content-length"] = str(len(content))
            self._answer(answer.status, told, half if fault in {"short", "cut"} else content)
            self.close_connection = fault == "cut"

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *given: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    faults = Faults(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield faults
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
