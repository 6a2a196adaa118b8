"""Authentication and authorisation.

A caller with a key acts for the key's owner. Before the first key exists, a caller with the token of the
installation acts for the default owner. With CLIPCITE_REQUIRE_TOKEN=false, so does every program on this
machine.
"""

import asyncio
import ipaddress
import logging
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problems import dialect_of, error_response
from api.threads import REQUESTS
from clipcite.types.foreign_site import foreign_reason
from core.errors import ExpectedError
from core.settings import Settings
from core.store.accounts import api_keys, audit, local_token
from core.store.accounts.api_keys import ADAPT, ADMIN, CLASSIFY, SCOPES
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db.session import Database
from core.store.errors import DatabaseUnavailable

OPEN_PATHS = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}
OPEN_FOLDER = "/page/"  # static files of the page, without data
# Scopes by method and path. The first match counts. All other routes need the scope admin, which allows all.
NEEDED: tuple[tuple[str, re.Pattern[str], frozenset[str]], ...] = (
    ("POST", re.compile(r"/classify"), frozenset({CLASSIFY})),
    ("", re.compile(r"/piles(/.*)?"), frozenset({ADAPT, CLASSIFY})),
    ("POST", re.compile(r"/thumbnail"), frozenset({CLASSIFY, ADAPT})),
    ("GET", re.compile(r"/models(/[^/]+(/aliases(/[^/]+)?)?)?"), frozenset({CLASSIFY, ADAPT})),
    ("GET", re.compile(r"/backbones|/qr|/samples(/[^/]+)?"), frozenset({CLASSIFY, ADAPT})),
    ("", re.compile(r"/(adapt|jobs|models)(/.*)?"), frozenset({ADAPT})),
)
KEYS_ASKED_SECONDS = 1.0
LOG_PERIOD_SECONDS = 60
MAX_LOG_LINES = 100
"""Maximum number of log lines about refusals per period. A stranger may send requests from many addresses."""
logger = logging.getLogger(__name__)
access = logging.getLogger("api.access")
# Only for /docs and generated clients. AuthMiddleware does the check.
bearer_scheme = HTTPBearer(
    auto_error=False,
    description="A key from `clipcite keys create`, or the service's CLIPCITE_ADMIN_KEY. Without keys, the "
    "token from `clipcite keys token`.",
)


@dataclass(frozen=True)
class Caller:
    """The owner on whose behalf a request is made, and its permissions."""

    owner: str
    scopes: frozenset[str]
    key_id: str
    """Id of the key, never the key itself."""

    @property
    def is_operator(self) -> bool:
        """True if the caller may change what all owners share."""
        return self.owner == DEFAULT_OWNER and ADMIN in self.scopes


OPERATOR = Caller(DEFAULT_OWNER, frozenset(SCOPES), "CLIPCITE_ADMIN_KEY")
WITH_TOKEN = Caller(DEFAULT_OWNER, frozenset(SCOPES), "token")
THIS_MACHINE = Caller(DEFAULT_OWNER, frozenset(SCOPES), "none")


class Unauthorized(ExpectedError):
    code = "unauthorized"
    status = 401


class TokenNeeded(Unauthorized):
    """The token is missing, on a service without keys."""

    code = "token_needed"


class ForeignSite(ExpectedError):
    code = "cross_site_request"
    status = 403


class MissingScope(ExpectedError):
    code = "missing_scope"
    status = 403


class OperatorOnly(ExpectedError):
    """A change that concerns all owners."""

    code = "operator_only"
    status = 403


def is_loopback(host: str) -> bool:
    """Return whether a listen address or a Host header refers only to this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def needed_scopes(method: str, path: str) -> frozenset[str]:
    """Return the scopes that allow a request. A key needs at least one of them."""
    for only, pattern, scopes in NEEDED:
        if only in {"", method} and pattern.fullmatch(path):
            return scopes
    return frozenset({ADMIN if dialect_of(path) is None else CLASSIFY})


class LastUse:
    """Recorder of the last use of keys, in a thread so that requests do not wait. One write per key waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="last-use")
        self._waiting: set[str] = set()

    def of_key(self, key_id: str) -> None:
        """Note a use of a key."""
        if key_id not in self._waiting:
            self._waiting.add(key_id)
            self._thread.submit(self._write, key_id)

    def _write(self, key_id: str) -> None:
        try:
            with self._database.write() as session:
                api_keys.record_use(session, key_id)
        except DatabaseUnavailable:
            pass  # the next use is recorded
        except Exception:
            logger.exception("%s: the last use could not be recorded", key_id)
        finally:
            self._waiting.discard(key_id)

    def close(self) -> None:
        """Record the waiting uses, then stop the thread."""
        self._thread.shutdown(wait=False)


class Refusals:
    """Counts refused requests, and logs each key or address once a minute per code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "clipcite_refused_requests",
            "Requests refused by authentication or a missing scope, by error code.",
            ["code"],
            registry=registry,
        )
        self._logged: set[tuple[str, str]] = set()
        self._period = 0

    def count(self, code: str, subject: str) -> None:
        """Count a refused request.

        Args:
            subject: id of the key if the service knows it, else the address of the client.
        """
        self._counter.labels(code).inc()
        period = int(time.monotonic() / LOG_PERIOD_SECONDS)
        if period != self._period:
            self._period = period
            self._logged.clear()
        if (code, subject) not in self._logged and len(self._logged) < MAX_LOG_LINES:
            self._logged.add((code, subject))
            logger.info("Requests from %s are refused: %s", subject, code)


class AuthMiddleware:
    """ASGI middleware: authenticate and authorise before the body is read.

    The caller is stored as `caller` in the request's state.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, database: Database, last_use: LastUse, refusals: Refusals
    ) -> None:
        self.app = app
        self.refusals = refusals
        self.settings = settings
        self.database = database
        self.last_use = last_use
        self._keys_made = settings.admin_key is not None or not (
            settings.require_token or is_loopback(settings.host)
        )
        self._keys_asked = -KEYS_ASKED_SECONDS
        self._token: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER):
            if scope.get("path") == "/readyz":
                scope.setdefault("state", {})["show_details"] = await self._show_details(Headers(scope=scope))
            await self.app(scope, receive, send)
            return
        caller: Caller | None = None
        try:
            caller = await self._caller(Headers(scope=scope))
            if any(route.matches(scope)[0] is not Match.NONE for route in scope["app"].routes):  # else 404
                _check_scope(caller, scope)
        except ExpectedError as refused:
            if refused.status < 500:
                key_id = caller.key_id if caller else getattr(refused, "key_id", None)
                self.refusals.count(refused.code, key_id or _address(scope))
            # The rest of the body is not read, so the connection can't be reused.
            response = error_response(scope, refused, {"Connection": "close"})
            await response(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["caller"] = caller
        audit.act_as(audit.Actor(caller.owner, caller.key_id, _address(scope)))

        started = time.monotonic()
        status: int | None = None

        async def send_with_owner(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).append("X-Clipcite-Owner", caller.owner)
            await send(message)

        try:
            await self.app(scope, receive, send_with_owner)
        except asyncio.CancelledError:  # the service stops: `api.starting` sends the response
            status = status or 503
            raise
        finally:
            # The route has no names of models or images, unlike the path.
            route = getattr(scope.get("route"), "path", "an unknown route")
            line = {
                "method": scope["method"],
                "route": route,
                "status": status or 500,
                "milliseconds": round(1000 * (time.monotonic() - started)),
                "key_id": caller.key_id,
                "request_id": state.get("request_id"),
            }
            text = "%(method)s %(route)s: %(status)s in %(milliseconds)s ms, %(key_id)s, %(request_id)s"
            access.info(text, line, extra={"access": line})

    async def _caller(self, headers: Headers) -> Caller:
        """Return the caller of a request with these headers."""
        scheme, given = get_authorization_scheme_param(headers.get("authorization"))
        if scheme.lower() == "bearer":
            expected = self.settings.admin_key
            if expected is not None and _same(given, expected.get_secret_value()):
                return OPERATOR
            if api_keys.is_formed(given):
                # The owner is not known yet. Keys take turns, so that many requests with one key do not delay
                # others.
                caller = await REQUESTS.run_as(f"key {hash(given)}", self._look_up, given)
                if caller is not None:
                    return caller
        if await self._keys_needed():
            raise Unauthorized(
                "The request has no valid key. Send the header `Authorization: Bearer <key>`. The operator "
                "creates keys with `clipcite keys create`."
            )
        if self.settings.require_token:
            return await self._with_token(given if scheme.lower() == "bearer" else "")
        reason = foreign_reason(headers)
        if reason is not None:
            raise ForeignSite(
                f"The service has no keys, so only programs and pages on its own machine may use it. The "
                f"request was refused because {reason}. Use http://127.0.0.1 or http://localhost, or set "
                "CLIPCITE_ADMIN_KEY."
            )
        return THIS_MACHINE

    async def _with_token(self, given: str) -> Caller:
        """Return the caller of a service without keys."""
        if self._token is None:
            self._token = await REQUESTS.run(local_token.ensure, self.settings.data)
        if not _same(given, self._token):
            raise TokenNeeded(
                "This service has no keys yet and requires its token. Open the link that `clipcite serve` "
                "printed, or send the header `Authorization: Bearer <token>`. On the machine of the service, "
                "`clipcite keys token` prints the token."
            )
        return WITH_TOKEN

    async def _show_details(self, headers: Headers) -> bool:
        """Return whether the caller may see why a part of the service is unavailable."""
        try:
            return ADMIN in (await self._caller(headers)).scopes
        except DatabaseUnavailable:  # use the last known state of the keys
            return not (self._keys_made or self.settings.require_token or foreign_reason(headers))
        except ExpectedError:
            return False

    def _look_up(self, key: str) -> Caller | None:
        with self.database.read() as session:
            row = api_keys.find(session, key)
        if row is None:
            return None
        if api_keys.is_stale(row):
            self.last_use.of_key(row.id)
        return Caller(row.owner, frozenset(row.scopes), row.id)

    async def _keys_needed(self) -> bool:
        """Return whether the service has or had keys.

        Without keys, the database is queried at most once per second.
        """
        if not self._keys_made and time.monotonic() - self._keys_asked >= KEYS_ASKED_SECONDS:
            self._keys_made = await REQUESTS.run(self._any_made)
            self._keys_asked = time.monotonic()
        return self._keys_made

    def _any_made(self) -> bool:
        with self.database.read() as session:
            return api_keys.any_made(session)


def _address(scope: Scope) -> str:
    """Return the client's address or, if a trusted proxy forwarded an invalid one, the proxy's address."""
    for client in (scope.get("client"), scope.get("state", {}).get("peer")):
        try:
            return str(ipaddress.ip_address(client[0] if client else ""))
        except ValueError:
            continue
    return "unknown"


def _check_scope(caller: Caller, scope: Scope) -> None:
    needed = needed_scopes(scope["method"], scope["path"])
    if not caller.scopes & (needed | {ADMIN}):
        raise MissingScope(
            f"This route needs a key with the scope {' or '.join(sorted(needed))}. Yours has "
            f"{', '.join(sorted(caller.scopes))}. Ask the operator for another key (`clipcite keys create`)."
        )


def _same(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())
