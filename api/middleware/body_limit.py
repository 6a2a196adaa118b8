"""Limits on request bodies: size, memory and speed, checked before a route sees them."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.forms import is_form
from api.http.json_values import MAX_JSON_VALUES, JsonValues
from api.http.problems import BodyRefused, dialect_of, error_response, problem_response
from core.admission import Admission, Grant, ServerBusy

MAX_SMALL_BYTES = 64_000
"""Maximum bytes of a body, unless its path has a larger limit."""
ANY_PATH = re.compile(r".*", re.DOTALL)
IDLE_SECONDS = 30.0
"""Maximum time without a byte of the body, after which its client is lost."""
CLOSE = {"Connection": "close"}
"""The rest of a refused body is not read, so the connection can't be reused."""
JSON_COPIES = 3
"""Copies of a JSON body in memory at once: as received, as text, and as decoded images."""


class BodyLimitMiddleware:
    """ASGI middleware that limits request bodies.

    Responses: 413 for a body that is too large or JSON with too many values, 408 for one that is too slow,
    503 if others take the memory.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        admission: Admission,
        *,
        form_paths: re.Pattern[str] = ANY_PATH,
        json_paths: re.Pattern[str] = ANY_PATH,
    ) -> None:
        """Limit the bodies of all paths, by default to MAX_SMALL_BYTES.

        Args:
            max_bytes: limit for multipart forms to `form_paths`, whose files are on disk.
            admission: limits the memory of all bodies. The request's grant is in its state, as `grant`.
        """
        self.app = app
        self.max_bytes = max_bytes
        self.admission = admission
        self.form_paths = form_paths
        self.json_paths = json_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = scope.setdefault("state", {}).get("caller")
        with self.admission.admit(caller.owner if caller else "") as grant:
            scope["state"]["grant"] = grant
            try:
                guarded = self._guard(scope, receive, grant)
            except BodyRefused as error:
                answer = problem_response(
                    scope, error.status_code, error.code, error.detail, (), error.headers
                )
            except ServerBusy as error:
                answer = error_response(scope, error, CLOSE)
            else:
                await self.app(scope, guarded, send)
                return
            await answer(scope, receive, send)

    def _guard(self, scope: Scope, receive: Receive, grant: Grant) -> Receive:
        """Check what the headers say about the body. Return `receive` with the limits.

        Raises:
            BodyRefused: the declared length is above the limit.
            ServerBusy: others take the memory.
        """
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        of_form = is_form(headers.get("content-type", ""))
        limit = self._limit(scope["path"], is_form=of_form)
        if length.isascii() and length.isdigit():
            declared = int(length[:20])
            if declared > limit:
                raise self._too_large(limit)
            if not of_form:  # its memory is held before it arrives
                grant.take(bytes=JSON_COPIES * declared)
        values = JsonValues()
        complete = False
        total = 0

        async def guarded_receive() -> Message:
            nonlocal complete, total
            try:
                # After the body comes the disconnection, which has no time limit.
                async with asyncio.timeout(None if complete else IDLE_SECONDS):
                    message = await receive()
            except TimeoutError:
                raise _refused(
                    408,
                    "upload_too_slow",
                    f"No byte of the request arrived within {IDLE_SECONDS:g} s. Nothing was stored. Send it "
                    "again over a better connection.",
                ) from None
            if message["type"] != "http.request":
                return message
            body = message.get("body", b"")
            complete = not message.get("more_body", False)
            total += len(body)
            if total > limit:
                raise self._too_large(limit)
            if not of_form:
                if values.add(body) > MAX_JSON_VALUES:
                    raise _refused(
                        413,
                        "too_many_values",
                        f"The JSON has more than {MAX_JSON_VALUES:,} strings, objects, arrays and commas. "
                        "Send fewer images, class names or prompts per request.",
                    )
                grant.take(bytes=max(0, JSON_COPIES * total - grant.bytes))
            return message

        return guarded_receive

    def _limit(self, path: str, *, is_form: bool) -> int:
        if is_form and self.form_paths.fullmatch(path):
            return self.max_bytes
        if not is_form and (self.json_paths.fullmatch(path) or dialect_of(path)):
            return min(self.max_bytes, self.admission.bytes.most // 2 // JSON_COPIES)
        return min(MAX_SMALL_BYTES, self.max_bytes)

    def _too_large(self, limit: int) -> BodyRefused:
        if limit == MAX_SMALL_BYTES < self.max_bytes:
            return _refused(
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
        return _refused(413, "request_too_large", f"{detail}.")


def _refused(status: int, code: str, detail: str) -> BodyRefused:
    return BodyRefused(status, code, detail, CLOSE)
