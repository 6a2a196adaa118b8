"""The application and the server of a process. It responds at once, while the service is being loaded."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from api.http.problems import problem_response
from api.ops.health import without_folder
from api.web.static_files import PAGE_HEADERS, STATIC, files
from clipcite.types.health import Alive, PartReadiness, Preparing, Readiness
from core.settings import Settings

logger = logging.getLogger(__name__)
DRAIN_SECONDS = 5
"""Time that requests in progress have to end at shutdown (seconds)."""
RETRY_AFTER = {"Retry-After": "2"}
JSON = "application/json"
DETAIL = "The service is starting. Try again in 2 seconds."
STOPPING = "The service is stopping. Try again in a few seconds."


class StartFailed(Exception):
    """The service must not start, for a reason that the operator can change."""


class StartingApp:
    """ASGI application that passes requests to the service once it is loaded.

    Until then the page says that the service is starting, /readyz names the current step in `preparing`, and
    routes that need the service respond with 503.
    """

    def __init__(self, settings: Settings, load: Callable[[], FastAPI]) -> None:
        """Create the application. `load` returns the service. It is called in a thread."""
        self.service: FastAPI | None = None
        self._load = load
        readiness = Readiness(
            status="unavailable",
            parts={"backbone": PartReadiness(status="unavailable", reason=DETAIL)},
            preparing=Preparing(what="Loading the service"),
            version=version("clipcite"),
            backbone=without_folder(settings.backbone),
            device=settings.device,
        )
        page = Response((STATIC / "starting.html").read_bytes(), 503, PAGE_HEADERS | RETRY_AFTER, "text/html")
        self._starting = Starlette(
            lifespan=self._lifespan,
            routes=[
                Mount("/page", files),
                Route("/", page),
                Route("/docs", page),
                Route("/healthz", Response(Alive().model_dump_json(), media_type=JSON)),
                Route("/readyz", Response(readiness.model_dump_json(), 503, RETRY_AFTER, JSON)),
                Mount("/", problem_response({}, 503, "starting", DETAIL, headers=RETRY_AFTER)),
            ],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = None if scope["type"] == "lifespan" else self.service
        try:
            await (service or self._starting)(scope, receive, send)
        except asyncio.CancelledError:  # the shutdown waits no longer, as uvicorn has logged in one line
            if scope["type"] == "lifespan":
                raise
            response = problem_response(scope, 503, "busy", STOPPING, headers=RETRY_AFTER)
            with suppress(RuntimeError):  # a response has already begun
                await response(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        serving = asyncio.create_task(self._serve(stopping))
        yield
        stopping.set()
        await serving

    async def _serve(self, stopping: asyncio.Event) -> None:
        """Load the service, and pass requests to it until `stopping` is set. A failure ends the process."""
        try:
            service = await asyncio.to_thread(self._load)
            async with service.router.lifespan_context(service):
                self.service = service
                await stopping.wait()
            return
        except StartFailed as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
        except Exception:
            logger.exception("The service has failed.")
        os._exit(1)


class Server(uvicorn.Server):
    """Server that notifies the service at the start of its shutdown, so that long polls and streams end."""

    def __init__(self, config: uvicorn.Config, app: StartingApp) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        service = self._app.service
        if service is None:
            os._exit(0)  # nothing is in progress, and the imports of the service can't be interrupted
        service.state.stopping.set()
        # Threads that download a backbone or read a huge upload would delay the exit by minutes.
        forced_exit = threading.Timer(DRAIN_SECONDS + 2, os._exit, (0,))
        forced_exit.daemon = True
        forced_exit.start()
        super().handle_exit(sig, frame)
