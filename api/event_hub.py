"""News of jobs for all who listen in this process, read from the database in one place.

One thread asks for all of them together, so that a listener costs a socket and a mailbox and neither
a connection to the database nor a thread. It runs while somebody listens.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi.sse import format_sse_event
from pydantic import BaseModel

from core.errors import ClipCiteError
from core.store.db.session import Database
from core.store.db.tables import FINAL, JobEvent
from core.store.jobs import events

logger = logging.getLogger(__name__)
QUICK_SECONDS, SLOW_SECONDS = 0.25, 1.0
"""Between two looks: soon after there was something, then ever later."""
MAX_WAITING = 1_000
"""Events that a listener has not taken; then its stream ends, and it may resume."""


class Event(BaseModel):
    seq: int
    at: datetime
    type: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> "Event":
        return cls(seq=event.seq, at=event.at, type=event.type, data=event.data)


@dataclass(frozen=True)
class SseEvent:
    """An event as it goes over the wire, made once for all who listen to its job."""

    seq: int
    wire: bytes
    last: bool

    @classmethod
    def of(cls, event: JobEvent) -> "SseEvent":
        last = event.type in FINAL
        name = "done" if last else "progress" if event.type == events.PROGRESS else "log"
        data = Event.of(event).model_dump_json()
        return cls(event.seq, format_sse_event(event=name, id=str(event.seq), data_str=data), last)


class TooManyStreams(ClipCiteError):
    code = "too_many_streams"
    status = 429
    retry_after = 5

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most:,} streams of events are open, the most that one owner may have here. Close some, or ask "
            "with GET /jobs/{id}?wait=30 instead."
        )


class Listener:
    """One open stream: where it is, and what it has not taken yet."""

    def __init__(self, job_id: str, seq: int, owner: str) -> None:
        self.job_id = job_id
        self.owner = owner
        self.seq = seq
        """Of the last event put into the mailbox. Only the feed's thread changes it."""
        self._loop = asyncio.get_running_loop()
        self._buffer: list[SseEvent] = []
        self._changed = asyncio.Event()
        self._closed = False

    async def next(self, seconds: float) -> list[SseEvent] | None:
        """What came meanwhile, in order; empty after so long without anything; None at the end."""
        if not self._closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        self._changed.clear()
        taken, self._buffer = self._buffer, []
        return None if self._closed and not taken else taken

    def publish(self, news: Sequence[SseEvent]) -> None:
        """From the feed's thread: what of it is new here."""
        later = [item for item in news if item.seq > self.seq]
        if later:
            self.seq = later[-1].seq
            self._tell(later, closed=False)

    def close(self) -> None:
        """From any thread, or from within a signal handler: no more will come."""
        self._tell([], closed=True)

    def _tell(self, news: list[SseEvent], *, closed: bool) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the stream with it
            self._loop.call_soon_threadsafe(self._hear, news, closed)

    def _hear(self, news: list[SseEvent], closed: bool) -> None:
        if len(self._buffer) > MAX_WAITING:  # nobody reads at the other end
            news, closed = [], True
        self._buffer += news
        self._closed = self._closed or closed
        self._changed.set()


class EventHub:
    def __init__(self, database: Database, most_streams: int) -> None:
        """`most_streams` of one owner; 0 is no limit."""
        self._database = database
        self._most_streams = most_streams
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None
        self._somebody_new = threading.Event()
        self._stopped = False

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def check_room(self, owner: str) -> None:
        """For one more stream of this owner. Raises TooManyStreams.

        Asked before the answer begins, so that requests at the same moment may exceed it by a few.
        """
        with self._lock:
            open_ones = sum(listener.owner == owner for listener in self._listeners)
        if self._most_streams and open_ones >= self._most_streams:
            raise TooManyStreams(self._most_streams)

    @contextmanager
    def listen(self, job_id: str, seq: int, owner: str) -> Iterator[Listener]:
        """Whatever has the job's events after `seq` for its lifetime: those that are, and those to come."""
        listener = Listener(job_id, seq, owner)
        with self._lock:
            self._listeners.add(listener)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
                self._thread.start()
        self._somebody_new.set()
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def stop(self) -> None:
        """The process is to end: so do all streams, now. Takes no lock, since a signal handler calls it."""
        self._stopped = True
        for listener in list(self._listeners):
            listener.close()

    def _run(self) -> None:
        pause = QUICK_SECONDS
        while True:
            self._somebody_new.clear()
            with self._lock:
                listeners = list(self._listeners)
                if self._stopped or not listeners:
                    self._thread = None
                    break
            try:
                pause = QUICK_SECONDS if self._look(listeners) else min(1.5 * pause, SLOW_SECONDS)
            except Exception as error:  # the database is away; whoever listens need not know
                logger.warning("Those who follow a job have to wait: %s", error)
                pause = SLOW_SECONDS
            self._somebody_new.wait(pause)
        for listener in listeners:
            listener.close()

    def _look(self, listeners: Sequence[Listener]) -> bool:
        """Give everyone what is new to them; whether there was anything."""
        seen: dict[str, int] = {}
        for listener in listeners:
            seen[listener.job_id] = min(listener.seq, seen.get(listener.job_id, listener.seq))
        with self._database.read() as session:
            found = events.newer(session, seen)
        news = {job_id: [SseEvent.of(event) for event in rows] for job_id, rows in found.items()}
        for listener in listeners:
            if listener.job_id in news:
                listener.publish(news[listener.job_id])
            else:
                listener.close()  # the job was deleted
        return any(news.values())
