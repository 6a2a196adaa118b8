"""Limits on request bodies: size, memory and speed, checked before a route sees them."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.forms import boundary_of
from api.http.json_values import MAX_JSON_VALUES, JsonValues
from api.http.problems import BodyRefused, dialect_of, problem_response
from core.admission import Admission, Grant, ServerBusy

MAX_SMALL_BYTES = 64_000
"""Maximum bytes of a body, unless its path has a larger limit."""
ANY_PATH = re.compile(r".*", re.DOTALL)
MIN_BYTES_PER_WINDOW = 1_000
"""Minimum bytes per window of IDLE_SECONDS (slow-loris protection)."""
IDLE_SECONDS = 30.0
JSON_COPIES = 3
"""Copies of a JSON body in memory at once: as received, as text, and as decoded images."""


class BodyLimitMiddleware:
    """ASGI middleware that limits request bodies.

    Responses: 413 for a body that is too large or JSON with too many values, 408 for one that is too slow,
    503 if others take the memory.

    The middleware responds itself, outside the application's exception handlers. It drops whatever the
    application sends after a rejection.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        admission: Admission,
        *,
        form_paths: re.Pattern[str] = ANY_PATH,
        json_paths: re.Pattern[str] = ANY_PATH,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Limit the bodies of all paths, by default to MAX_SMALL_BYTES.

        Args:
            max_bytes: limit for multipart forms to `form_paths`, whose files are on disk.
            admission: limits the memory of all bodies. The request's grant is in its state, as `grant`.
            idle_seconds: window in which MIN_BYTES_PER_WINDOW must arrive.
        """
        self.app = app
        self.max_bytes = max_bytes
        self.admission = admission
        self.form_paths = form_paths
        self.json_paths = json_paths
        self.idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = scope.setdefault("state", {}).get("caller")
        with self.admission.admit(caller.owner if caller else "") as grant:
            scope["state"]["grant"] = grant
            await self._guard(scope, receive, send, grant)

    async def _guard(self, scope: Scope, receive: Receive, send: Send, grant: Grant) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        try:
            is_form = boundary_of(headers.get("content-type", "")) is not None
            limit = self._limit(scope["path"], is_form=is_form)
            if length.isascii() and length.isdigit():
                declared = int(length[:20])
                if declared > limit:
                    raise self._too_large(limit)
                if not is_form:  # its memory is held before it arrives
                    grant.take(bytes=JSON_COPIES * declared)
        except ServerBusy as busy:
            await _response(scope, _busy(busy))(scope, receive, send)
            return
        except BodyRefused as refused:
            await _response(scope, refused)(scope, receive, send)
            return

        values = JsonValues()
        pace = _Pace(receive, self.idle_seconds)
        total = 0
        started = False
        refusal: BodyRefused | None = None

        async def guarded_receive() -> Message:
            nonlocal total, refusal
            if refusal is not None:
                raise refusal
            try:
                message = await pace.receive()
            except TimeoutError:
                refusal = self._too_slow()
                raise refusal from None
            if message["type"] != "http.request":
                return message
            body = message.get("body", b"")
            total += len(body)
            if total > limit:
                refusal = self._too_large(limit)
            elif not is_form and values.add(body) > MAX_JSON_VALUES:
                refusal = self._too_many_values()
            elif not is_form:
                try:
                    grant.take(bytes=max(0, JSON_COPIES * total - grant.bytes))
                except ServerBusy as busy:
                    refusal = _busy(busy)
            if refusal is not None:
                raise refusal
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if refusal is not None and not started:
                return
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, guarded_receive, guarded_send)
        except Exception:
            if refusal is None or started:
                raise
        if refusal is not None and not started:
            await _response(scope, refusal)(scope, receive, send)

    def _limit(self, path: str, *, is_form: bool) -> int:
        if is_form and self.form_paths.fullmatch(path):
            return self.max_bytes
        if not is_form and (self.json_paths.fullmatch(path) or dialect_of(path)):
            return min(self.max_bytes, self.admission.bytes.most // 2 // JSON_COPIES)
        return min(MAX_SMALL_BYTES, self.max_bytes)

    def _too_many_values(self) -> BodyRefused:
        return BodyRefused(
            413,
            "too_many_values",
            f"The JSON has more than {MAX_JSON_VALUES:,} strings, objects, arrays and commas. Send fewer "
            "images, class names or prompts per request.",
        )

    def _too_large(self, limit: int) -> BodyRefused:
        if limit == MAX_SMALL_BYTES < self.max_bytes:
            return BodyRefused(
                413,
                "request_too_large",
                f"The request has more than {limit:,} bytes, the maximum of this route. Send only the fields "
                "that /docs lists for it.",
            )
        detail = f"The request has more than {limit:,} bytes. Send fewer or smaller images"
        if limit < self.max_bytes:
            detail += f", or send them as multipart/form-data, which may have {self.max_bytes:,} bytes"
        else:
            detail += ". The operator of the service can raise CLIPCITE_MAX_REQUEST_BYTES"
        return BodyRefused(413, "request_too_large", f"{detail}.")

    def _too_slow(self) -> BodyRefused:
        return BodyRefused(
            408,
            "upload_too_slow",
            f"Fewer than {MIN_BYTES_PER_WINDOW:,} bytes of the request arrived within "
            f"{self.idle_seconds:g} s. Nothing was stored. Send it again over a better connection.",
        )


def _response(scope: Scope, refused: BodyRefused) -> Response:
    # The rest of the body is not read, so the connection can't be reused.
    headers = {"Connection": "close", **(refused.headers or {})}
    return problem_response(scope, refused.status_code, refused.code, refused.detail, headers=headers)


def _busy(error: ServerBusy) -> BodyRefused:
    return BodyRefused(error.status, error.code, error.detail, {"retry-after": str(error.retry_after)})


class _Pace:
    """Timeout for clients that send a body too slowly.

    Only the time spent waiting for the client counts, not the time that the server takes to write to disk.
    """

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._waited = 0.0
        self._bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        """Return the next message. Raise TimeoutError if the client is too slow."""
        if self._complete:
            return await self._receive()  # the disconnection, which has no time limit
        now = asyncio.get_running_loop().time
        started = now()
        async with asyncio.timeout(self._seconds - self._waited):
            message = await self._receive()
        self._waited += now() - started
        self._bytes += len(message.get("body", b""))
        if self._bytes >= MIN_BYTES_PER_WINDOW:
            self._waited, self._bytes = 0.0, 0
        self._complete = not message.get("more_body", False)
        return message
