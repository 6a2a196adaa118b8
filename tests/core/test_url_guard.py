"""URLs accepted for a webhook, and the addresses that they may resolve to."""

import ipaddress
import socket

import pytest

from core.url_guard import Destination, InvalidDestination, NotPublic, addresses, is_public, parse
from tests.core.urls import INSIDE, MALFORMED


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("https://example.com", ("https", "example.com", 443, "/"), "example.com"),
        ("http://Example.COM./a?b=c&d", ("http", "example.com", 80, "/a?b=c&d"), "example.com"),
        ("HTTPS://a-b.example:8443/x", ("https", "a-b.example", 8443, "/x"), "a-b.example:8443"),
        ("http://example.com:443?q", ("http", "example.com", 443, "/?q"), "example.com:443"),
        ("https://8.8.8.8/%20", ("https", "8.8.8.8", 443, "/%20"), "8.8.8.8"),
        ("https://[2606:4700::1]:9443/", ("https", "2606:4700::1", 9443, "/"), "[2606:4700::1]:9443"),
        ("https://xn--bcher-kva.example/", ("https", "xn--bcher-kva.example", 443, "/"), None),
        ("https://my_service.example/", ("https", "my_service.example", 443, "/"), None),
    ],
)
def test_accepted_urls(url: str, expected: tuple[str, str, int, str], authority: str | None) -> None:
    found = parse(url, allow_private=False)
    assert found == Destination(*expected)
    assert found.authority == (authority or found.host)


@pytest.mark.parametrize("url", INSIDE)
def test_internal_addresses(url: str) -> None:
    with pytest.raises(NotPublic, match=r"CLIPCITE_WEBHOOK_ALLOW_PRIVATE=true\.$"):
        parse(url, allow_private=False)
    assert parse(url, allow_private=True).host


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("url", MALFORMED)
def test_invalid_urls(url: str, allow_private: bool) -> None:
    with pytest.raises(InvalidDestination, match=r"^The .*webhook.*\.$"):
        parse(url, allow_private=allow_private)


def test_no_error_repeats_a_password() -> None:
    with pytest.raises(InvalidDestination) as refused:
        parse("https://user:hunter2@example.com/", allow_private=True)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2001:4860:4860::8888"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["8.8.8.8", "::1"], ["fe80::1%eth0"], ["::ffff:10.0.0.1"]],
)
def test_one_address_inside_is_enough(found: list[str]) -> None:
    example = parse("https://example.com/", allow_private=False)
    with pytest.raises(OSError, match="no public address") as inside:
        addresses(example, allow_private=False, resolve=lambda host, port: found)

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(OSError, match="no public address") as missing:
        addresses(example, allow_private=False, resolve=unknown)
    assert str(inside.value) == str(missing.value)
    assert addresses(example, allow_private=True, resolve=lambda host, port: found) == found


def test_the_systems_own_answer() -> None:
    assert "127.0.0.1" in addresses(parse("http://localhost:1/", allow_private=True), allow_private=True)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1"])
def test_other_notations_of_this_machine_are_not_public_addresses(host: str) -> None:
    with pytest.raises(OSError, match="no public address"):
        addresses(parse(f"http://{host}/", allow_private=False), allow_private=False)
