"""uvicorn with a timeout for request headers (slow-loris protection) and a bounded shutdown."""

import asyncio
import os
import threading
from types import FrameType
from typing import Any

import uvicorn
from starlette.datastructures import State
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 30.0


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's h11 protocol with a timeout for the request line and the headers.

    A connection without complete headers after `head_seconds` is closed. uvicorn's own timeout covers only
    the pause between two requests. Without this one, a client that sends nothing, or a byte now and then,
    would hold its connection for ever. BodyLimitMiddleware covers the body.
    """

    head_seconds = HEAD_SECONDS
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._rest()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _rest(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


DRAIN_SECONDS = 5


class Server(uvicorn.Server):
    """Server that tells the application about its shutdown at once, so that long polls and streams end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        state: State = self.config.app.state  # type: ignore[union-attr]
        state.stopping.set()
        state.event_hub.stop()
        # Threads that download a backbone or read a huge upload would delay the exit by minutes.
        forced_exit = threading.Timer(DRAIN_SECONDS + 2, os._exit, (0,))
        forced_exit.daemon = True
        forced_exit.start()
        super().handle_exit(sig, frame)
