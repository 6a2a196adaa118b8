"""Responses while the service starts: a page for people, 503 with `Retry-After` for programs.

Importing the service takes seconds. This module needs only the standard library, so it answers at once.
"""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STATIC = Path(__file__).parent / "web" / "static"
RETRY_AFTER = 2
IDLE_SECONDS = 5
MAX_DISCARDED_BYTES = 1_000_000
PAGES = {"/": "starting.html", "/docs": "starting.html"}
ASSETS = {
    "/page/starting.js": "text/javascript; charset=utf-8",
    "/page/style.css": "text/css; charset=utf-8",
    "/page/icon.svg": "image/svg+xml",
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
POLICY += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"


class _Handler(BaseHTTPRequestHandler):
    timeout = IDLE_SECONDS
    server_version, sys_version = "clipcite", ""

    def _answer(self) -> None:
        # Closing a connection with unread data would reset it, and the client would not see the response.
        length = self.headers.get("Content-Length", "")
        self.rfile.read(min(int(length) if length.isdecimal() else 0, MAX_DISCARDED_BYTES))
        path = self.path.partition("?")[0]
        if path in ASSETS:
            self._send(200, ASSETS[path], (STATIC / Path(path).name).read_bytes())
        elif path in PAGES:
            self._send(503, "text/html; charset=utf-8", (STATIC / PAGES[path]).read_bytes())
        else:
            self._send(503, "application/problem+json", _PROBLEM)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": media_type,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **({"Retry-After": str(RETRY_AFTER)} if status == 503 else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: these requests are no requests to the service yet."""


_PROBLEM = json.dumps(
    {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": f"The service is starting. Try again in {RETRY_AFTER} seconds.",
        "code": "starting",
        "errors": [],
        "request_id": None,
    }
).encode()


class StartingPage:
    """Server on a listening socket, until `stop`. The socket stays open."""

    def __init__(self, listener: socket.socket) -> None:
        self._server = ThreadingHTTPServer(("", 0), _Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="starting", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting. Later connections wait in the socket's backlog."""
        self._server.shutdown()
        self._thread.join()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raise OSError if the address cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm only for sockets of this protocol. With it, every response on a
    # kept connection is 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
