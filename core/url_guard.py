"""SSRF protection: webhook URLs must resolve to public addresses only.

The text of a URL is checked on submission, to report mistakes at once. Its addresses are checked before each
delivery, because DNS records change. Only the second check is authoritative, for example for the host 0x7f.1.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from core.errors import ExpectedError

MAX_LENGTH = 2_000
PORTS = {"http": 80, "https": 443}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]
"""Function that maps host and port to the host's addresses. It may raise OSError."""

_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)
_LOCAL = {"localhost", "local", "internal", "lan"}
# In addition to Python's `is_global`, whose tables differ between versions.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",  # Azure's metadata service, which has secrets
        "2001::/32",  # this network (Teredo) and the next (6to4) embed an IPv4 address
        "2002::/16",
        "3fff::/20",
    )
]
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")


class InvalidDestination(ExpectedError):
    """An invalid webhook URL."""

    code = "invalid_webhook"
    status = 422


class NotPublic(ExpectedError):
    """The address in a webhook URL is not public."""

    code = "webhook_not_public"
    status = 422


@dataclass(frozen=True)
class Destination:
    """A parsed URL. It is parsed only once, because a second parser could read it differently."""

    scheme: str
    host: str
    """Host in lower case. An IPv6 address has no brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """Host and port as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, allow_private: bool) -> Destination:
    """Parse a webhook URL.

    Raises:
        InvalidDestination: the URL is malformed or not supported.
        NotPublic: the host is a private address or a local name.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        host, port = "", None
    address = _address(host)
    if (
        len(url) > MAX_LENGTH
        or not _PRINTABLE.fullmatch(url)
        or any(character in url for character in "\\@#")
        or port == 0
        or (address is None and not _NAME.fullmatch(host))
        or parts.scheme not in PORTS
    ):
        raise InvalidDestination(
            "The webhook's URL is invalid. Write it as https://host/path, in printable ASCII of at most "
            f"{MAX_LENGTH:,} characters, without a user, a password or a fragment (#…)."
        )
    if not allow_private:
        if address is not None and not is_public(address):
            raise NotPublic(_refusal(f"the address {address} is not public"))
        if host.rpartition(".")[2] in _LOCAL:
            raise NotPublic(_refusal(f"the name {host} belongs to a local network"))
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    return Destination(parts.scheme, host, port or PORTS[parts.scheme], target)


def addresses(destination: Destination, *, allow_private: bool, resolve: Resolve | None = None) -> list[str]:
    """Return the current addresses of the host.

    Connect to these addresses, not to the name: a second look-up may return others (DNS rebinding).

    Raises:
        OSError: the name can't be resolved, or an address is not public. Both cases have the same message,
            so that it does not reveal which names exist in the service's network.
    """
    try:
        texts = (resolve or resolve_host)(destination.host, destination.port)
    except OSError as error:
        raise OSError("the name has no public address") from error
    if not allow_private:
        for text in texts:
            if not is_public(ipaddress.ip_address(text.partition("%")[0])):
                raise OSError("the name has no public address")
    return texts


def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a host from the system's resolver."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def is_public(address: Address) -> bool:
    """Return whether this is a unicast address on the public internet."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _IPV6_PUBLIC:
        return False  # loopback, link-local, unique local, multicast, IPv4-mapped
    private = any(address in network for network in _NOT_PUBLIC if network.version == address.version)
    return address.is_global and not address.is_multicast and not address.is_reserved and not private


def _address(host: str) -> Address | None:
    """Return the host as an address, or None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refusal(reason: str) -> str:
    return (
        f"The webhook's URL is not allowed: {reason}. Use a public URL. The operator can allow private ones "
        "with CLIPCITE_WEBHOOK_ALLOW_PRIVATE=true."
    )
