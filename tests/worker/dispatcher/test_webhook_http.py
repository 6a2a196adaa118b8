"""Webhook connections: to the checked addresses, with the certificate of the host name."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trustme

from core.url_guard import Destination
from worker.dispatcher.webhook_http import post, signed


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def there(authority: trustme.CA) -> Iterator[tuple[Destination, list[str | None]]]:
    """Run a TLS server for receiver.example on loopback. Yield it and the server names that clients sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("receiver.example").configure_cert(context)
    names: list[str | None] = []
    context.sni_callback = lambda connection, name, _: names.append(name)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    heard = b""
                    while not heard.endswith(b"{}"):
                        heard += wrapped.recv(65_536)
                    wrapped.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            except ssl.SSLError:
                continue  # The client rejected the certificate.
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield Destination("https", "receiver.example", server.getsockname()[1], "/"), names
        server.shutdown(socket.SHUT_RDWR)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_the_name_is_checked_and_not_the_address(
    there: tuple[Destination, list[str | None]], authority: trustme.CA
) -> None:
    to, names = there
    tls = trusting(authority)
    assert post(to, ["127.0.0.1"], {}, b"{}", seconds=10, tls=tls) == 202
    assert names == ["receiver.example"]
    with pytest.raises(OSError, match=r"(?i)hostname mismatch"):
        post(replace(to, host="other.example"), ["127.0.0.1"], {}, b"{}", seconds=10, tls=tls)
    with pytest.raises(OSError, match=r"(?i)certificate verify failed"):
        post(to, ["127.0.0.1"], {}, b"{}", seconds=10)


def test_one_address_after_another(
    there: tuple[Destination, list[str | None]], authority: trustme.CA
) -> None:
    to, _ = there
    assert post(to, ["127.0.0.9", "127.0.0.1"], {}, b"{}", seconds=10, tls=trusting(authority)) == 202
    with pytest.raises(ConnectionRefusedError):
        post(to, ["127.0.0.9"], {}, b"{}", seconds=10)


def test_the_example_of_the_standard() -> None:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""
    body = b'{"event_type":"ping","data":{"success":true}}'
    headers = signed("whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", body, at=1731705121)
    assert headers == {
        "webhook-id": "msg_loFOjxBNrRLzqYUf",
        "webhook-timestamp": "1731705121",
        "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    }
