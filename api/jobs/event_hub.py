"""Fan-out of job events to all event streams and waiting requests (`?wait=`) of this process.

One thread polls the database for all of them together. A stream therefore costs a socket and a buffer, but no
thread and no database connection. The thread runs only while streams are open.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fastapi.sse import format_sse_event

from clipcite.wire.jobs import Event
from core.errors import ClipCiteError
from core.store.db.session import Database
from core.store.db.tables import FINAL, JobEvent
from core.store.jobs import events

logger = logging.getLogger(__name__)
QUICK_SECONDS, SLOW_SECONDS = 0.25, 1.0
"""Shortest and longest polling interval. The interval is shortest after new events, then grows."""
MAX_BUFFERED = 1_000
"""Maximum number of unread events per stream. Above it the stream ends, and the client may resume."""


def to_event(row: JobEvent) -> Event:
    return Event(seq=row.seq, at=row.at, type=row.type, data=row.data)


@dataclass(frozen=True)
class SseEvent:
    """Event in its wire format, encoded once for all streams of the job."""

    seq: int
    type: str
    wire: bytes
    last: bool

    @classmethod
    def of(cls, event: JobEvent) -> "SseEvent":
        last = event.type in FINAL
        name = "done" if last else "progress" if event.type == events.PROGRESS else "log"
        data = to_event(event).model_dump_json()
        return cls(
            event.seq, event.type, format_sse_event(event=name, id=str(event.seq), data_str=data), last
        )


class TooManyStreams(ClipCiteError):
    code = "too_many_streams"
    status = 429
    retry_after = 5

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most:,} event streams and requests with `wait` are open, which is the maximum per owner. "
            "Close some, or poll with GET /jobs/{id} instead."
        )


class Listener:
    """An open stream or waiting request: its position and its unread events."""

    def __init__(self, job_id: str, seq: int, owner: str) -> None:
        self.job_id = job_id
        self.owner = owner
        self.seq = seq
        """Number of the last event put into the buffer. Only the hub's thread changes it."""
        self._loop = asyncio.get_running_loop()
        self._buffer: list[SseEvent] = []
        self._changed = asyncio.Event()
        self._closed = False

    async def next(self, seconds: float) -> list[SseEvent] | None:
        """Wait up to `seconds` for events and return them in order.

        An empty list means that the wait timed out, None that the stream has ended.
        """
        if not self._closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        self._changed.clear()
        taken, self._buffer = self._buffer, []
        return None if self._closed and not taken else taken

    def publish(self, events: Sequence[SseEvent]) -> None:
        """Append the events that are new to this stream. Called by the hub's thread."""
        later = [event for event in events if event.seq > self.seq]
        if later:
            self.seq = later[-1].seq
            self._send(later, closed=False)

    def close(self) -> None:
        """End the stream. Safe from any thread and inside a signal handler."""
        self._send([], closed=True)

    def _send(self, events: list[SseEvent], *, closed: bool) -> None:
        with suppress(RuntimeError):  # the event loop has ended, and the stream with it
            self._loop.call_soon_threadsafe(self._receive, events, closed)

    def _receive(self, events: list[SseEvent], closed: bool) -> None:
        if len(self._buffer) > MAX_BUFFERED:  # the client does not read
            events, closed = [], True
        self._buffer += events
        self._closed = self._closed or closed
        self._changed.set()


class EventHub:
    """The open streams, and the thread that polls the database for them."""

    def __init__(self, database: Database, max_streams: int) -> None:
        """Create a hub. `max_streams` is the limit per owner; 0 means no limit."""
        self._database = database
        self._max_streams = max_streams
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None
        self._new_listener = threading.Event()
        self._stopped = False

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def check_room(self, owner: str) -> None:
        """Check that the owner may open another stream.

        The check precedes the response, so concurrent requests may exceed the limit by a few streams.

        Raises:
            TooManyStreams: the owner has reached the limit.
        """
        with self._lock:
            open_streams = sum(listener.owner == owner for listener in self._listeners)
        if self._max_streams and open_streams >= self._max_streams:
            raise TooManyStreams(self._max_streams)

    @contextmanager
    def listen(self, job_id: str, seq: int, owner: str) -> Iterator[Listener]:
        """Yield a listener that receives the job's events after `seq`, past and future ones."""
        listener = Listener(job_id, seq, owner)
        try:
            with self._lock:
                self._listeners.add(listener)
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="event-hub", daemon=True)
                    thread.start()  # may fail: then the next stream tries again
                    self._thread = thread
            self._new_listener.set()
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def stop(self) -> None:
        """End all streams at shutdown. Takes no lock, because a signal handler calls it."""
        self._stopped = True
        for listener in list(self._listeners):
            listener.close()

    def _run(self) -> None:
        pause = QUICK_SECONDS
        while True:
            self._new_listener.clear()
            with self._lock:
                listeners = list(self._listeners)
                if self._stopped or not listeners:
                    self._thread = None
                    break
            try:
                pause = QUICK_SECONDS if self._poll(listeners) else min(1.5 * pause, SLOW_SECONDS)
            except Exception as error:  # the database is unavailable; the streams stay open
                logger.warning("Event streams are delayed: %s", error)
                pause = SLOW_SECONDS
            self._new_listener.wait(pause)
        for listener in listeners:
            listener.close()

    def _poll(self, listeners: Sequence[Listener]) -> bool:
        """Publish new events to the listeners. Return whether there were any."""
        seen: dict[str, int] = {}
        for listener in listeners:
            seen[listener.job_id] = min(listener.seq, seen.get(listener.job_id, listener.seq))
        with self._database.read() as session:
            newer = events.newer(session, seen)
        encoded = {job_id: [SseEvent.of(event) for event in rows] for job_id, rows in newer.items()}
        for listener in listeners:
            if listener.job_id in encoded:
                listener.publish(encoded[listener.job_id])
            else:
                listener.close()  # the job was deleted
        return any(encoded.values())
