"""Server that sends scripted bytes, without a service behind it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Scripted:
    """Address of the server and the requests that it has read."""

    url: str
    seen: list[str] = field(default_factory=list)
    """Method and path of each request."""


def response(body: str, kind: str = "application/json", status: int = 200) -> bytes:
    """Return a response that ends with its connection."""
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


@contextmanager
def scripted_server(*answers: bytes | None, tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Answer each connection with the next of `answers`, the last one again and again.

    An empty answer closes the connection after the request. None keeps it open without an answer.
    """
    rest = list(answers)
    silent: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                connection, _ = listener.accept()
                with suppress(OSError):  # the client left, or rejects the certificate
                    connection = connection if tls is None else tls.wrap_socket(connection, server_side=True)
                    _answer(connection)

    def _answer(connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            method, path = file.readline().split()[:2]
            length = 0
            while line := file.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            file.read(length)
        scripted.seen.append(f"{method.decode()} {path.decode()}")
        answer = rest.pop(0) if len(rest) > 1 else rest[0]
        if answer is None:
            silent.append(connection)
        else:
            connection.sendall(answer)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme, port = "http" if tls is None else "https", listener.getsockname()[1]
        scripted = Scripted(f"{scheme}://127.0.0.1:{port}")
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield scripted
        finally:
            for connection in silent:
                connection.close()
