"""Who may call: everyone on this machine, or whoever has the key."""

import ipaddress
import secrets
from urllib.parse import urlsplit

from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import MEDIA_TYPE, problem_body
from core.clip.errors import ClipCiteError
from core.settings import Settings

OPEN_PATHS = {"/healthz", "/readyz", "/docs", "/openapi.json"}
# Only described by this, for /docs and generated clients; the door checks it.
described = HTTPBearer(auto_error=False, description="CLIPCITE_API_KEY of the service, where one is set.")


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


def check(settings: Settings, headers: Headers) -> None:
    """Whether a request with these headers may come in.

    Raises:
        Unauthorized: there is a key, and the request does not bring it.
        ForeignSite: there is none, and a web page of another site sent the request through a
            browser on this machine.
    """
    if settings.api_key is not None:
        scheme, given = get_authorization_scheme_param(headers.get("authorization"))
        expected = settings.api_key.get_secret_value()
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), expected.encode()):
            raise Unauthorized("Send the header `Authorization: Bearer <key>` with the key of this service.")
        return
    # A name that points to 127.0.0.1 (DNS rebinding), or a form on a foreign page.
    host = _host_of(f"//{headers.get('host', '')}")
    origin = headers.get("origin")
    if not is_loopback(host) or (origin is not None and not is_loopback(_host_of(origin))):
        raise ForeignSite(
            "Without a key only programs and pages of this machine may call. Use http://127.0.0.1 or "
            "http://localhost, or set CLIPCITE_API_KEY."
        )


class Door:
    """ASGI middleware: strangers are turned away before any of their body is read."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        try:
            check(self.settings, Headers(scope=scope))
        except (Unauthorized, ForeignSite) as refused:
            headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
            body = problem_body(scope, refused.status, refused.code, refused.detail)
            # The rest of the body is not read, so the connection can't carry another request.
            headers["Connection"] = "close"
            answer = Response(body, refused.status, headers, media_type=MEDIA_TYPE)
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
