"""Limits on request bodies: size, memory and speed, checked before a route sees them."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.forms import is_form
from api.http.problems import BodyRefused, dialect_of, error_response, problem_response
from core.admission import Budget, ServerBusy
from core.scratch import ScratchExceeded, ScratchFull

MAX_SMALL_BYTES = 64_000
"""Maximum size of a body (bytes), unless its path has a larger limit."""
ANY_PATH = re.compile(r".*", re.DOTALL)
IDLE_SECONDS = 30.0
"""Maximum time without a byte of the body (seconds). After it the client counts as lost."""
CLOSE = {"Connection": "close"}
"""The rest of a refused body is not read, so the connection can't be reused."""
JSON_COPIES = 3
"""Number of copies of a JSON body that are in memory at once: as received, as text, and as decoded images."""


class BodyLimitMiddleware:
    """ASGI middleware that limits request bodies.

    A body takes its part of a budget until the response is sent. If its length is declared, it takes its part
    before it arrives. The response is 413 for a body that is too large, 408 for one that is too slow, 503 if
    others use the budget, and 507 if the disk is full. A request takes additional memory with `take_memory`
    in its state.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        memory: Budget,
        disk: Budget,
        *,
        upload_paths: re.Pattern[str] = ANY_PATH,
        memory_paths: re.Pattern[str] = ANY_PATH,
    ) -> None:
        """Limit bodies to MAX_SMALL_BYTES, except on some paths.

        Args:
            max_bytes: limit for large bodies.
            upload_paths: paths that accept large forms. Their files are on disk.
            memory_paths: paths that accept large bodies of any type. They stay in memory.
        """
        self.app = app
        self.max_bytes = max_bytes
        self.memory = memory
        self.disk = disk
        self.upload_paths = upload_paths
        self.memory_paths = memory_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        of_form = is_form(headers.get("content-type", ""))
        copies = 1 if of_form else JSON_COPIES
        on_disk, limit = self._place(scope["path"], of_form=of_form, copies=copies)
        length = headers.get("content-length", "")
        declared = int(length[:20]) if length.isascii() and length.isdigit() else 0
        state = scope.setdefault("state", {})
        owner = state["caller"].owner if "caller" in state else ""
        try:
            if declared > limit:
                raise self._too_large(limit)
            with (
                self.memory.hold(owner) as state["take_memory"],
                (self.disk if on_disk else self.memory).hold(owner, copies * declared) as take,
            ):
                complete = False
                total = 0

                async def guarded() -> Message:
                    nonlocal complete, total
                    try:
                        # After the body, only the disconnection is awaited, without a time limit.
                        async with asyncio.timeout(None if complete else IDLE_SECONDS):
                            message = await receive()
                    except TimeoutError:
                        raise _refused(
                            408,
                            "upload_too_slow",
                            f"No byte of the request arrived within {IDLE_SECONDS:g} s. Nothing was stored. "
                            "Send it again over a better connection.",
                        ) from None
                    if message["type"] == "http.request":
                        size = len(message.get("body", b""))
                        complete = not message.get("more_body", False)
                        total += size
                        if total > limit:
                            raise self._too_large(limit)
                        take(copies * max(0, min(size, total - declared)))
                    return message

                await self.app(scope, guarded, send)
        except BodyRefused as error:  # raised before the application, which handles its own errors
            response = problem_response(scope, error.status_code, error.code, error.detail, (), error.headers)
            await response(scope, receive, send)
        except (ServerBusy, ScratchExceeded, ScratchFull) as error:
            await error_response(scope, error, CLOSE)(scope, receive, send)

    def _place(self, path: str, *, of_form: bool, copies: int) -> tuple[bool, int]:
        """Return whether a body is on disk, and its maximum size."""
        if self.memory_paths.fullmatch(path) or dialect_of(path):
            return False, min(self.max_bytes, self.memory.share // copies)
        if of_form and self.upload_paths.fullmatch(path):
            return True, self.max_bytes
        return False, min(MAX_SMALL_BYTES, self.max_bytes)

    def _too_large(self, limit: int) -> BodyRefused:
        if limit == MAX_SMALL_BYTES < self.max_bytes:
            return _refused(
                413,
                "request_too_large",
                f"The request has more than {limit:,} bytes, the maximum of this route. Send only the fields "
                "that /docs lists for it.",
            )
        detail = f"The request has more than {limit:,} bytes. Send fewer or smaller images"
        if limit == self.memory.share // JSON_COPIES:
            form = min(self.max_bytes, self.memory.share)
            detail += f", or send them as multipart/form-data, which may have {form:,} bytes"
        elif limit == self.max_bytes:
            detail += ". The operator of the service can raise CLIPCITE_MAX_REQUEST_BYTES"
        return _refused(413, "request_too_large", f"{detail}.")


def _refused(status: int, code: str, detail: str) -> BodyRefused:
    return BodyRefused(status, code, detail, CLOSE)
