"""One signed POST according to Standard Webhooks, to addresses that are resolved already.

No proxies and no redirects are used. Only the status is read, within a deadline for the whole exchange.
"""

import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import httpcore
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
        httpcore.TimeoutException, NetworkError, ProtocolError: there was no response.
    """
    url = httpcore.URL(
        scheme=destination.scheme, host=destination.host, port=destination.port, target=destination.target
    )
    all_headers = [("Host", destination.authority), *headers.items()]
    pinned = _Pinned(addresses, time.monotonic() + seconds)
    with (
        httpcore.ConnectionPool(tls or _tls(), network_backend=pinned) as pool,
        pool.stream("POST", url, headers=all_headers, content=body) as response,
    ):
        return response.status  # the body is not read: the connection is closed


@cache
def _tls() -> ssl.SSLContext:
    """Return a TLS context with the default certificate authorities and those of SSL_CERT_FILE."""
    return httpx.create_ssl_context()


class _Pinned(httpcore.NetworkBackend):
    """A backend that connects to given addresses, whatever the name resolves to now."""

    def __init__(self, addresses: Sequence[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("the host has no address")
        for left, address in zip(range(len(self._addresses), 0, -1), self._addresses, strict=True):
            try:
                stream = httpcore.SyncBackend().connect_tcp(
                    address, port, _remaining(self._deadline) / left, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Bounded(stream, self._deadline)
        raise failure


class _Bounded(httpcore.NetworkStream):
    """A stream with one deadline for all reads and writes, against receivers that send a byte at a time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(self._deadline))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wrapped = self._stream.start_tls(ssl_context, server_hostname, _remaining(self._deadline))
        return _Bounded(wrapped, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("deadline exceeded")
    return left
