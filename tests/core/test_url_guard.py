"""URLs accepted for a webhook, and the addresses that they may resolve to."""

import ipaddress
import socket

import pytest

from core.url_guard import Destination, InvalidDestination, NotPublic, addresses, is_public, parse

# Every spelling of "this machine" or "this network" that some resolver accepts.
INSIDE = [
    "http://127.0.0.1/",
    "http://127.8.8.8/",
    "http://0.0.0.0/",
    "http://10.1.2.3/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[fec0::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:1::1]/",
    "http://[2001:db8::1]/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost/",
    "http://printer.local/",
    "http://metadata.google.internal/",
]
MALFORMED = [
    "http://１２７.0.0.1/",
    "http://ⓛocalhost/",
    "http://%31%32%37.0.0.1/",
    "http://[::1/",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com#@127.0.0.1/",
    "http://example.com/#a",
    "http://exam ple.com/",
    "http://example.com/\r\nHost: a",
    "http://example.com/\tb",
    "http:///path",
    "http://:80/",
    "http:example.com",
    "http:/example.com",
    "//example.com/",
    "example.com",
    "",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:x/",
    "http://exa$mple.com/",
    "http://-a.com/",
    "http://a..com/",
    f"http://{'a' * 64}.com/",
    f"http://example.com/{'a' * 2000}",
]


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
