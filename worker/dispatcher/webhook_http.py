"""One signed POST according to Standard Webhooks, to addresses that are resolved already.

No proxies and no redirects are used. Only the status is read, within a deadline for the whole exchange.
"""

import base64
import hashlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from http.client import HTTPConnection, HTTPException

import httpx

from core.url_guard import Destination


def signed(secret: str, message_id: str, body: bytes, *, at: int) -> dict[str, str]:
    """Return the headers that authenticate the sender.

    Args:
        secret: `whsec_` followed by base64.
        at: Unix time; receivers tolerate a difference of some minutes.
    """
    content = f"{message_id}.{at}.".encode() + body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def post(
    destination: Destination,
    addresses: Sequence[str],
    headers: dict[str, str],
    body: bytes,
    *,
    seconds: float,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Send the request, and return the status of the response.

    The connection goes to one of the `addresses`. Host header and certificate use the name.

    Args:
        seconds: deadline for the whole exchange.

    Raises:
        TimeoutError: there was no response before the deadline.
        OSError, HTTPException: there was no response.
    """
    until = time.monotonic() + seconds
    connection = HTTPConnection("receiver")
    with _connected(addresses, destination.port, until) as plain, plain.dup() as same:
        # Ends the exchange, also with a receiver that sends a byte at a time.
        timer = threading.Timer(until - time.monotonic(), _end, [same])
        timer.start()
        try:
            connection.sock = plain
            if destination.scheme == "https":
                connection.sock = (tls or _tls()).wrap_socket(plain, server_hostname=destination.host)
            connection.request("POST", destination.target, body, {"Host": destination.authority, **headers})
            return connection.getresponse().status  # the body is not read: the connection is closed
        except (OSError, HTTPException) as error:
            if time.monotonic() > until - 0.01:
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
            connection.close()
            timer.join()


def _connected(addresses: Sequence[str], port: int, until: float) -> socket.socket:
    """Return a connection to the first address that accepts one, whatever the name resolves to now."""
    failure = OSError("the host has no address")
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            seconds = max(0.01, (until - time.monotonic()) / left)
            connected = socket.create_connection((address, port), seconds)
        except OSError as error:
            failure = error
        else:
            connected.settimeout(None)
            return connected
    raise failure


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended already
        connection.shutdown(socket.SHUT_RDWR)


@cache
def _tls() -> ssl.SSLContext:
    """Return a TLS context with the default certificate authorities and those of SSL_CERT_FILE."""
    return httpx.create_ssl_context()
