"""Refuses request bodies that are too large or that end too early, before a route sees them."""

from collections.abc import Callable, Sequence

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import render

RawHeaders = Sequence[tuple[bytes, bytes]]
Render = Callable[[Scope, int, str, str], tuple[RawHeaders, bytes]]


class BodyRefused(HTTPException):
    """Ends the reading of a body. An HTTPException because FastAPI answers any other exception of
    the stream with a 400 of its own."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, detail)
        self.code = code


class BodyGuard:
    """ASGI middleware: 413 for a body above `max_bytes`, 400 for a multipart body without its end.

    The framework alone takes a form that was cut on its way for a complete one with fewer files. The
    guard answers itself: it stands outside the app's exception handlers, and whatever the app would
    send after a refusal is dropped.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, render: Render = render) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.max_bytes:
            await self._answer(scope, send, self._too_large())
            return
        try:
            end = _EndOfForm.of(headers.get("content-type", ""))
        except BodyRefused as refused:
            await self._answer(scope, send, refused)
            return

        total = 0
        started = False
        refusal: BodyRefused | None = None

        async def guarded_receive() -> Message:
            nonlocal total, refusal
            if refusal is not None:
                raise refusal
            message = await receive()
            if message["type"] != "http.request":
                return message
            body = message.get("body", b"")
            total += len(body)
            if total > self.max_bytes:
                refusal = self._too_large()
            elif end is not None and not end.seen(body) and not message.get("more_body", False):
                refusal = BodyRefused(
                    400,
                    "truncated_body",
                    "The multipart body ends without its closing boundary, so files may be missing: it "
                    "was cut on its way, or the boundary in Content-Type is not the one in the body. "
                    "Nothing was stored; send it again.",
                )
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
            await self._answer(scope, send, refusal)

    def _too_large(self) -> BodyRefused:
        return BodyRefused(
            413,
            "request_too_large",
            f"The request has more than {self.max_bytes:,} bytes; send fewer or smaller pictures.",
        )

    async def _answer(self, scope: Scope, send: Send, refused: BodyRefused) -> None:
        headers, body = self.render(scope, refused.status_code, refused.code, refused.detail)
        # The rest of the body is not read, so the connection can't carry another request.
        more = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        await send(
            {"type": "http.response.start", "status": refused.status_code, "headers": [*headers, *more]}
        )
        await send({"type": "http.response.body", "body": body})


class _EndOfForm:
    """Looks for the closing boundary in a stream of chunks; what follows it (an epilogue) is free."""

    def __init__(self, boundary: bytes) -> None:
        self.delimiter = b"\r\n--" + boundary + b"--"
        self.tail = b"\r\n"  # a delimiter begins a line, and so does the body
        self.found = False

    @classmethod
    def of(cls, content_type: str) -> "_EndOfForm | None":
        """None unless it's a form of parts. Raises BodyRefused without a usable boundary."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            return None
        boundary = options.get(b"boundary", b"")
        if not 1 <= len(boundary) <= 200:  # RFC 2046 says 70
            raise BodyRefused(
                400,
                "invalid_boundary",
                "The Content-Type multipart/form-data needs a boundary parameter of 1 to 70 characters; "
                "let your HTTP client write that header.",
            )
        return cls(boundary)

    def seen(self, chunk: bytes) -> bool:
        if not self.found:
            window = self.tail + chunk
            self.found = self.delimiter in window
            self.tail = window[-(len(self.delimiter) - 1) :]
        return self.found
