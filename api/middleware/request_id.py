"""Request ids: the caller's `X-Request-ID` if it is safe, else a new one.

The id is in the response header, in problems and in all log lines of the request. Every response also
forbids browsers to guess the content type.
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.log import from_here
from core.store.registry.references import JOB_PREFIX

HARMLESS = re.compile(r"[A-Za-z0-9._-]{1,64}")
JOB = re.compile(rf"/jobs/({JOB_PREFIX}[0-9a-z]{{26}})(/|$)")


class RequestId:
    """ASGI middleware that assigns the request id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if HARMLESS.fullmatch(sent) else f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        # Not reset, because the task belongs to this request, and outer layers log its failure.
        from_here(request_id=request_id)
        if job := JOB.match(scope["path"]):
            from_here(job_id=job[1])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_id)
