"""Large responses: their memory counts until they are sent, in pieces that a slow client can read in time."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problems import error_response
from api.uvicorn_server import PIECE_BYTES
from core.admission import Grant, ServerBusy

LARGE_BYTES = 1_000_000
"""Size from which the memory of a response counts."""
MAX_PIECES = 20
"""Pieces of a large response. A client has the connection's `read_seconds` for each, ten minutes for all."""


class AnswerMiddleware:
    """ASGI middleware that sends a response in pieces, as fast as the client reads.

    A large response counts as memory of its owner until it is sent. Without room the response is a 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        grant: Grant = scope["state"]["grant"]
        start: Message | None = None
        refused = False

        async def send_pieces(message: Message) -> None:
            nonlocal start, refused
            if message["type"] == "http.response.start" and _length(message) > LARGE_BYTES:
                start = message  # sent once there is room for the body
                return
            body = message.get("body", b"")
            counted = len(body) if len(body) > LARGE_BYTES else 0
            if refused:
                return
            try:
                grant.take(bytes=counted)
            except ServerBusy as busy:
                if start is None:
                    raise
                refused = True
                await error_response(scope, busy)(scope, receive, send)
                return
            try:
                if start is not None:
                    await send(start)
                    start = None
                await _in_pieces(message, send)
            finally:
                grant.take(bytes=-counted)

        await self.app(scope, receive, send_pieces)


def _length(start: Message) -> int:
    length = Headers(raw=list(start["headers"])).get("content-length", "")
    return int(length) if length.isdecimal() else 0


async def _in_pieces(message: Message, send: Send) -> None:
    """Send a message. uvicorn takes a piece when the client has read most of the one before."""
    body = memoryview(message.get("body", b""))
    size = max(PIECE_BYTES, len(body) // MAX_PIECES)
    while len(body) > size:
        await send({"type": "http.response.body", "body": bytes(body[:size]), "more_body": True})
        body = body[size:]
    await send({**message, "body": bytes(body)} if message["type"] == "http.response.body" else message)
