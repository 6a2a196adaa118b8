"""HTTP connections that don't wait for ever: whoever connects must send a request soon."""

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
    """uvicorn's own, but a connection on which no whole head of a request comes is closed after
    `head_seconds`. uvicorn itself counts only between two requests; a byte now and then, or none at all,
    would hold a connection and its file for ever. What follows a head is the body guard's business."""

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
    """Tells the application at once that it is to stop: long polls and streams end before their time."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        state: State = self.config.app.state  # type: ignore[union-attr]
        state.stopping.set()
        state.feed.stop()
        # Threads that download a backbone or read a huge upload would hold up the end for minutes.
        insist = threading.Timer(DRAIN_SECONDS + 2, os._exit, (0,))
        insist.daemon = True
        insist.start()
        super().handle_exit(sig, frame)
