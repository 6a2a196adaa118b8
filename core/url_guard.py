"""Where a webhook may go: to public addresses, so that nobody who may start a job can make this service
knock at doors inside its own network.

The text of a URL is checked when it comes in, the addresses that its name stands for when it is used:
they may change in between.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from core.errors import ClipCiteError

MAX_LENGTH = 2_000
PORTS = {"http": 80, "https": 443}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]
"""The addresses of a host. Raises OSError."""

_AUTHORITY = re.compile(r"(\[[0-9a-f.]*:[0-9a-f:.]*\]|[^\[\]:]+)(:[0-9]+)?", re.I)
_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)
_LIKE_A_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain")
# Beside what Python's tables call not global, which grow from version to version.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",  # of the machines of a cloud: it tells them their secrets
        "2001::/32",  # these two carry an IPv4 address, and lead to it
        "2002::/16",
        "3fff::/20",
    )
]
_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")


class InvalidDestination(ClipCiteError):
    """The text is no URL that a webhook can go to."""

    code = "invalid_webhook"
    status = 422


class NotPublic(ClipCiteError):
    """An address that outsiders must not reach through this service."""

    code = "webhook_not_public"
    status = 422


@dataclass(frozen=True)
class Destination:
    """A URL, taken apart once: nobody else gets to read it in another way."""

    scheme: str
    host: str
    """In lower case; an IPv6 address without its brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, allow_private: bool) -> Destination:
    """Raises InvalidDestination; NotPublic if the text alone shows that it leads inside."""
    if len(url) > MAX_LENGTH:
        raise InvalidDestination(f"The webhook's URL may have at most {MAX_LENGTH:,} characters.")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise InvalidDestination(
            "The webhook's URL must be of printable ASCII without spaces and backslashes; write other "
            "letters in a path as %XX, and a name with them in its xn-- form."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidDestination(f"The webhook's URL can't be read: {error}.") from error
    if parts.scheme not in PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise InvalidDestination("The webhook's URL must begin with https:// or http://.")
    if "@" in parts.netloc:
        raise InvalidDestination(
            "The webhook's URL must not hold a user or a password: deliveries are signed, which says more."
        )
    if "#" in url:
        raise InvalidDestination("The webhook's URL must not have a fragment (#…): it would not be sent.")
    if port == 0 or not _AUTHORITY.fullmatch(parts.netloc):
        raise InvalidDestination(
            "The webhook's URL needs a host after ://, which may be followed by a colon and a port of 1 to "
            "65535."
        )
    host = (parts.hostname or "").removesuffix(".")
    address = _address(host)
    if address is None and not _NAME.fullmatch(host):
        raise InvalidDestination(
            "The webhook's URL needs a host: a name of letters, digits and hyphens, an IPv4 address as four "
            "decimal numbers, or an IPv6 address in brackets."
        )
    if not allow_private:
        if address is not None and not is_public(address):
            raise NotPublic(_refusal(f"the address {address} is not public"))
        if address is None and (host in _LOCAL or host.endswith(tuple(f".{name}" for name in _LOCAL))):
            raise NotPublic(_refusal(f"the name {host} is of a local network"))
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    return Destination(parts.scheme, host, port or PORTS[parts.scheme], target)


def addresses(destination: Destination, *, allow_private: bool, resolve: Resolve | None = None) -> list[str]:
    """What its host stands for now. To be connected to as they are: asked again, the name may stand
    for others.

    Raises:
        OSError: there is no such name, or nobody who knows it.
        NotPublic: one of them is not public, be the others so or not.
    """
    found = (resolve or resolved)(destination.host, destination.port)
    if not allow_private:
        for text in found:
            if not is_public(ipaddress.ip_address(text.partition("%")[0])):
                raise NotPublic(_refusal(f"{destination.host} leads to an address that is not public"))
    return found


def resolved(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: Address) -> bool:
    """Whether it is of a single machine on the open internet."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _IPV6_PUBLIC:
        return False  # loopback, link-local, unique local, multicast, and IPv4 in disguise
    inside = any(address in network for network in _NOT_PUBLIC if network.version == address.version)
    return address.is_global and not address.is_multicast and not address.is_reserved and not inside


def _address(host: str) -> Address | None:
    """The address that a host is; None for a name. Raises InvalidDestination for other ways to write one,
    which the system's resolver would take: 2130706433, 0x7f.1, 127.1, 0177.0.0.1."""
    if "%" in host:
        raise InvalidDestination(
            "The host of the webhook's URL must not hold a % (a zone, or hidden letters)."
        )
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if ":" in host or _LIKE_A_NUMBER.fullmatch(host.rpartition(".")[2]):
        raise InvalidDestination(
            f"The host {host[:60]!r} of the webhook's URL is no address in its usual form, such as "
            "203.0.113.7 or [2001:db8::7]."
        )
    return None


def _refusal(reason: str) -> str:
    return (
        f"The webhook can't go there: {reason}. Give a URL on the open internet; the operator may allow any "
        "with CLIPCITE_WEBHOOK_ALLOW_PRIVATE=true."
    )
