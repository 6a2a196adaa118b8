"""One signed POST, as Standard Webhooks describe it, to addresses that were looked up before: no proxy, no
redirect, nothing of the answer but its status, and an end to it however slowly the other side talks.
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


def signed(secrets: Sequence[str], message_id: str, body: bytes, *, at: int) -> dict[str, str]:
    """The headers by which a receiver knows the sender: a signature with each of the secrets (`whsec_` and
    base64). `at` is the Unix time, of which receivers tolerate some minutes' difference."""
    content = f"{message_id}.{at}.".encode() + body
    signatures = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signatures.append(f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
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
    """The status of the answer, which comes within `seconds`, or something is raised.

    The connection goes to one of the `addresses`; the name is what the Host header and the certificate
    must say.

    Raises:
        httpcore.TimeoutException, NetworkError, ProtocolError: there was no answer.
    """
    url = httpcore.URL(
        scheme=destination.scheme, host=destination.host, port=destination.port, target=destination.target
    )
    everything = [("Host", destination.authority), *headers.items()]
    pinned = _Pinned(addresses, time.monotonic() + seconds)
    with (
        httpcore.ConnectionPool(tls or _tls(), network_backend=pinned) as pool,
        pool.stream("POST", url, headers=everything, content=body) as answer,
    ):
        return answer.status  # what else it says is not read: the connection is closed


@cache
def _tls() -> ssl.SSLContext:
    """The authorities that are known here, and those of SSL_CERT_FILE."""
    return httpx.create_ssl_context()


class _Pinned(httpcore.NetworkBackend):
    """Connects to the given addresses, whatever the name stands for by now."""

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
        failure: Exception = httpcore.ConnectError("it has no address")
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
    """Every wait ends at one deadline; a limit for each would let a slow receiver hold us for hours."""

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
        raise httpcore.ReadTimeout("the time is over")
    return left
