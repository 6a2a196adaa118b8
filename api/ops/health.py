"""Checks of database, storage, broker and backbone, for GET /readyz."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fastapi import Request, Response
from starlette.datastructures import State

from api.ops.schemas import Part, PartReadiness, Readiness
from core.errors import ClipCiteError
from core.store.errors import DatabaseUnavailable
from core.store.jobs import queue
from core.store.storage import installation

logger = logging.getLogger(__name__)
GOOD_SECONDS = 1.0
STORAGE_GOOD_SECONDS = 15.0
"""Each request to a bucket is paid for."""
NOT_FOR_YOU = (
    "The operator can see why: in the service's log, or here with a key that has the scope admin (the header "
    "`Authorization: Bearer <key>`)."
)


class Checks:
    """Asks database, storage and broker in a thread of its own, and at most once per second: neither
    many who ask nor a database that hangs can take the threads and connections of other requests."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checks")
        self._lock = threading.Lock()
        self._asked: Future[dict[str, PartReadiness]] | None = None
        self._good_until = 0.0
        self._storage = PartReadiness(status="ok")
        self._storage_good_until = 0.0
        self._storage_tried = False
        """Whether a blob was written, read and deleted since the start."""
        self._told: dict[str, Part] = {}

    async def ask(self) -> dict[str, PartReadiness]:
        with self._lock:
            done = self._asked is not None and self._asked.done()
            if self._asked is None or (done and time.monotonic() > self._good_until):
                self._asked = self._thread.submit(self._check)
            asked = self._asked
        parts = await asyncio.shield(asyncio.wrap_future(asked))
        backbone = _part(self._state.serving.ready)  # costs nothing, and is news at once
        return {**parts, "backbone": backbone}

    def begin(self) -> None:
        """At the start, not awaited: the storage is tried, and a new one gets its id before any upload."""
        with self._lock:
            self._asked = self._thread.submit(self._check)

    def _check(self) -> dict[str, PartReadiness]:
        database = _part(self._state.database.check)
        if time.monotonic() > self._storage_good_until:
            self._storage = self._check_storage(with_database=database.status == "ok")
            if self._storage.status == database.status == "ok":
                self._storage_good_until = time.monotonic() + STORAGE_GOOD_SECONDS
        parts = {
            "database": database,
            "storage": self._storage,
            "broker": _part(lambda: queue.check(self._state.celery), without="degraded"),
        }
        for name, part in parts.items():
            if part.status != self._told.get(name, "ok"):
                logger.warning("The %s is %s. %s", name, part.status, part.reason or "")
            self._told[name] = part.status
        self._good_until = time.monotonic() + GOOD_SECONDS
        return parts

    def _check_storage(self, *, with_database: bool) -> PartReadiness:
        """Writes only until that has worked once. `degraded` where database and storage don't belong
        together: everything works, but what is stored is not what the database knows."""
        database, blobs = self._state.database, self._state.blobs
        try:
            if not self._storage_tried:
                blobs.check()
                if with_database:
                    installation.write_if_empty(database, blobs)
                    self._storage_tried = True
            if not with_database:
                installation.stored_id(blobs)
                return PartReadiness(status="ok")
            problem = installation.problem(database, blobs)
        except DatabaseUnavailable:  # the other part says so
            return PartReadiness(status="ok")
        except ClipCiteError as error:
            return PartReadiness(status="unavailable", reason=error.detail)
        return PartReadiness(status="ok" if problem is None else "degraded", reason=problem)


def _part(check: Callable[[], None], *, without: Part = "unavailable") -> PartReadiness:
    try:
        check()
    except ClipCiteError as error:
        return PartReadiness(status=without, reason=error.detail)
    return PartReadiness(status="ok")


def show(parts: dict[str, PartReadiness], *, details: bool) -> Readiness:
    """The worst status of the parts; without `details` no reason for it."""
    worst: Part = "ok"
    for part in parts.values():
        if part.status == "unavailable" or (part.status == "degraded" and worst == "ok"):
            worst = part.status
    if not details:
        parts = {
            name: part if part.status == "ok" else PartReadiness(status=part.status, reason=NOT_FOR_YOU)
            for name, part in parts.items()
        }
    return Readiness(status=worst, parts=parts)


async def answer_readyz(request: Request, response: Response) -> Readiness:
    """The readiness, and status 503 in `response` where a part is unavailable."""
    readiness = show(await request.app.state.checks.ask(), details=request.state.show_details)
    if readiness.status == "unavailable":
        response.status_code = 503
    return readiness
