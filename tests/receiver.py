"""Receiver of webhooks on loopback that records its requests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    host: str
    port: int
    answers: list[int] = field(default_factory=list)
    """Statuses to answer with, in order; then 204."""
    hits: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Requests received: (path, headers in lower case, body)."""
    location: str = "/elsewhere"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/hook?team=a"


@contextmanager
def receiver(host: str = "127.0.0.1", port: int = 0) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.hits.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(made.answers.pop(0) if made.answers else 204)
            self.send_header("Location", made.location)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    made = Receiver(host, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(600)
