"""Who may call: everyone on this machine, or whoever has the key."""

import ipaddress
import secrets
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.security.utils import get_authorization_scheme_param

from core.clip.errors import ClipCiteError
from core.settings import Settings


class Unauthorized(ClipCiteError):
    code = "unauthorized"
    status = 401


class ForeignSite(ClipCiteError):
    code = "foreign_site"
    status = 403


def is_loopback(host: str) -> bool:
    """Whether an address to listen on, or of a Host header, means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal_to_listen(settings: Settings) -> str | None:
    """Why the service must not start as it is set up; None if it may."""
    if settings.api_key is not None and len(settings.api_key.get_secret_value()) < 16:
        return "CLIPCITE_API_KEY must have at least 16 characters, for example from `openssl rand -hex 32`."
    if settings.api_key is None and not is_loopback(settings.host):
        return (
            f"Without a key the service listens on this machine only, not on {settings.host}. Set "
            "CLIPCITE_API_KEY (for example to the output of `openssl rand -hex 32`), or use --host 127.0.0.1."
        )
    return None


def authorize(request: Request) -> None:
    """A dependency of every route but the health checks.

    Raises:
        Unauthorized: there is a key, and the request does not bring it.
        ForeignSite: there is none, and a web page of another site sent the request through a
            browser on this machine.
    """
    settings: Settings = request.app.state.settings
    if settings.api_key is not None:
        scheme, given = get_authorization_scheme_param(request.headers.get("authorization"))
        expected = settings.api_key.get_secret_value()
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), expected.encode()):
            raise Unauthorized("Send the header `Authorization: Bearer <key>` with the key of this service.")
        return
    # A name that points to 127.0.0.1 (DNS rebinding), or a form on a foreign page.
    host = _host_of(f"//{request.headers.get('host', '')}")
    origin = request.headers.get("origin")
    if not is_loopback(host) or (origin is not None and not is_loopback(_host_of(origin))):
        raise ForeignSite(
            "Without a key only programs and pages of this machine may call. Use http://127.0.0.1 or "
            "http://localhost, or set CLIPCITE_API_KEY."
        )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
