"""Proxy that injects network and storage faults in front of a server."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_SECONDS = 0.3


class Faults:
    """Faults of the next requests, one each. `seen` lists all requests as "METHOD fault"."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[str] = []
        self._lock = threading.Lock()
        self._next: list[tuple[str, str]] = []

    def expect(self, method: str, *faults: str) -> None:
        """Set the faults of the next requests of this method.

        `503` and `507` are statuses. `reset` cuts the connection before the request is served, and `lost`
        loses the answer afterwards. `cut` breaks the answer off, `short` passes half of it off as all. `slow`
        delays, and `hang` exceeds every timeout.
        """
        with self._lock:
            self._next += [(method, fault) for fault in faults]

    def take(self, method: str) -> str:
        with self._lock:
            fault = next((f for f in self._next if f[0] == method), (method, "none"))
            if fault in self._next:
                self._next.remove(fault)
            self.seen.append(" ".join(fault))
            return fault[1]


@contextmanager
def faulty(endpoint: str) -> Iterator[Faults]:
    """Run a proxy on loopback in front of `endpoint`."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault = faults.take(self.command)
            if fault.isdigit():
                self.send_response(int(fault))
                self.send_header("content-length", "0")
                self.end_headers()
                return
            if fault in {"reset", "hang"}:
                if fault == "hang":
                    ended.wait(60)
                self.close_connection = True
                return
            if fault == "slow":
                time.sleep(SLOW_SECONDS)
            server = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=30)
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            content = answer.read()
            server.close()
            if fault == "lost":
                self.close_connection = True
                return
            self.send_response(answer.status)
            told = len(content) // 2 if fault == "short" else len(content)
            for name, value in answer.getheaders():
                if name.lower() not in {
                    "content-length",
                    "connection",
                    "transfer-encoding",
                    "date",
                    "server",
                }:
                    self.send_header(name, value)
            if self.command == "HEAD":
                self.send_header("content-length", answer.getheader("content-length", "0"))
            else:
                self.send_header("content-length", str(told))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2 if fault in {"short", "cut"} else None])
            self.close_connection = fault == "cut"

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

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
