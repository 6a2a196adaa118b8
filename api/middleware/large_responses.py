"""Memory budget for large responses. A response counts against it until it has been sent."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problems import error_response
from core.admission import ServerBusy

LARGE_BYTES = 1_000_000
"""Size above which a response counts against the budget (bytes)."""
PIECE_BYTES = 65_536


class LargeResponses:
    """ASGI middleware that sends large responses in pieces, as fast as the client reads.

    uvicorn buffers whatever it is given. If a response were sent whole, it would stop counting before the
    client has read it. If the budget is used up, the response is a 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        refused = False

        async def send_pieces(message: Message) -> None:
            nonlocal start, refused
            if message["type"] == "http.response.start":
                start = message  # sent once the budget has admitted the body
                return
            body = memoryview(message.get("body", b""))
            if start is not None:
                if len(body) > LARGE_BYTES:
                    try:
                        scope["state"]["take_memory"](len(body))
                    except ServerBusy as busy:
                        refused = True
                        await error_response(scope, busy)(scope, receive, send)
                if not refused:
                    await send(start)
                start = None
            if refused:
                return
            while len(body) > PIECE_BYTES:
                await send(
                    {"type": "http.response.body", "body": bytes(body[:PIECE_BYTES]), "more_body": True}
                )
                body = body[PIECE_BYTES:]
            await send(
                {**message, "body": bytes(body)} if message["type"] == "http.response.body" else message
            )

        await self.app(scope, receive, send_pieces)
