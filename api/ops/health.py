"""GET /healthz, and GET /readyz with checks of database, storage, broker and backbone."""

import asyncio
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import PurePath

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.datastructures import State

from clipcite.types.health import Alive, Part, PartReadiness, Readiness
from core.errors import ExpectedError
from core.store.errors import DatabaseUnavailable
from core.store.jobs import queue
from core.store.storage import installation

logger = logging.getLogger(__name__)
router = APIRouter(tags=["health"])
"""Routes that need no key."""
GOOD_SECONDS = 1.0
"""Time for which a result is reused (seconds)."""
STORAGE_GOOD_SECONDS = 60.0
"""Time for which a good result of the storage is reused (seconds): requests to a bucket cost money."""
MIN_FREE_BYTES = 20_000_000
"""Free space below which a disk counts as full (bytes). It is less than an upload of a few photos."""
OK = PartReadiness(status="ok", reason=None)
HIDDEN_REASON = (
    "The operator finds the reason in the service's log, or here with a key that has the scope admin (header "
    "`Authorization: Bearer <key>`)."
)


class Checks:
    """Checks of the service's parts, in their own thread and at most once per second.

    Without this, callers of `/readyz` or a hanging database could use up the threads and connections of
    other requests.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checks")
        self._lock = threading.Lock()
        self._pending: Future[dict[str, PartReadiness]] | None = None
        self._good_until = 0.0
        self._storage = OK
        self._storage_good_until = 0.0
        self._logged: dict[str, Part] = {}

    async def run(self) -> dict[str, PartReadiness]:
        """Return the status of each part, from the last check or from a new one."""
        with self._lock:
            done = self._pending is not None and self._pending.done()
            if self._pending is None or (done and time.monotonic() > self._good_until):
                self._pending = self._thread.submit(self._check)
            pending = self._pending
        parts = await asyncio.shield(asyncio.wrap_future(pending))
        backbone = _part(self._state.serving.ready)  # costs nothing, so it is never reused
        return {**parts, "backbone": backbone}

    def _check(self) -> dict[str, PartReadiness]:
        database = _part(self._state.database.check)
        if database["status"] == "ok":
            database = _part(self._state.database.check_writable, without="degraded")
        if database["status"] != "unavailable" and time.monotonic() > self._storage_good_until:
            self._storage = self._check_storage()
            if self._storage["status"] == "ok":
                self._storage_good_until = time.monotonic() + STORAGE_GOOD_SECONDS
        storage = self._storage
        if storage["status"] == "ok" and (problem := self._disk_problem()) is not None:
            storage = PartReadiness(status="degraded", reason=problem)
        parts = {
            "database": database,
            "storage": storage,
            "broker": _part(lambda: queue.check(self._state.celery), without="degraded"),
        }
        for name, part in parts.items():
            if part["status"] != self._logged.get(name, "ok"):
                logger.warning("The %s is %s. %s", name, part["status"], part["reason"] or "")
            self._logged[name] = part["status"]
        self._good_until = time.monotonic() + GOOD_SECONDS
        return parts

    def _check_storage(self) -> PartReadiness:
        """Check the storage. If it can be read but not written, models still classify."""
        try:
            installation.check(self._state.database, self._state.blobs, bind=True)
        except DatabaseUnavailable:  # reported by the part `database`
            return OK
        except ExpectedError as error:
            return PartReadiness(status="unavailable", reason=error.detail)
        return _part(self._state.blobs.check, without="degraded")

    def _disk_problem(self) -> str | None:
        """Return a sentence if a disk of the service is full or read-only, else None."""
        for folder in filter(None, (self._state.settings.data, self._state.blobs.folder)):
            with suppress(OSError), tempfile.TemporaryFile(dir=folder):
                if shutil.disk_usage(folder).free >= MIN_FREE_BYTES:
                    continue
            return f"The disk of {folder} is full or read-only. Uploads fail. Free some space, or repair it."
        return None


def _part(check: Callable[[], None], *, without: Part = "unavailable") -> PartReadiness:
    try:
        check()
    except ExpectedError as error:
        return PartReadiness(status=without, reason=error.detail)
    return OK


def show(app: FastAPI, parts: dict[str, PartReadiness], *, details: bool) -> Readiness:
    """Return all parts and the worst status among them. Without `details` the reasons are hidden."""
    worst: Part = "ok"
    for part in parts.values():
        if part["status"] == "unavailable" or (part["status"] == "degraded" and worst == "ok"):
            worst = part["status"]
    if not details:
        parts = {
            name: part
            if part["status"] == "ok"
            else PartReadiness(status=part["status"], reason=HIDDEN_REASON)
            for name, part in parts.items()
        }
    return Readiness(
        status=worst,
        parts=parts,
        version=app.version,
        backbone=without_folder(app.state.serving.default_backbone),
        device=app.state.serving.engine.device,
    )


def without_folder(backbone: str) -> str:
    """Hide the folder of a local backbone, because this route is public."""
    kind, _, path = backbone.partition(":")
    return f"{kind}:{PurePath(path).name}" if kind == "local-dir" else backbone


@router.get("/healthz")
async def alive() -> Alive:
    """Liveness: the process responds, even when all its threads are busy."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def ready(request: Request, response: Response) -> Readiness:
    """Readiness: 200 if the service can work, else 503.

    503 means that the database, the storage or the default backbone is unavailable. `degraded` means that
    images are still classified, but jobs wait without the broker, and uploads fail while database or storage
    can't be written. Only callers that may read `/metrics` see reasons. The checks run at most once per
    second.
    """
    state = request.app.state
    readiness = show(request.app, await state.checks.run(), details=request.state.show_details)
    readiness.preparing = state.serving.preparing()
    if readiness.status == "unavailable":
        response.status_code = 503
    return readiness
