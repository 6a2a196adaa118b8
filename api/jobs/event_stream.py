"""Events of a job: streams (server-sent events), lists, and waiting requests (`?wait=`).

The numbered events are written in the transactions of the changes that they describe. A reader follows a job
by reading the events after the last number it has seen. Events travel only through the database, so any API
process can report on any worker. The job's row is locked while an event is appended, so numbers become
visible in order and readers miss none.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.deps import from_state
from api.threads import REQUESTS
from clipcite.types.jobs import FINAL, Event
from core.admission import Budget, ServerBusy
from core.store.db.session import Database
from core.store.db.tables import JobEvent
from core.store.errors import DatabaseUnavailable
from core.store.jobs.lifecycle import PROGRESS

logger = logging.getLogger(__name__)
MAX_STREAMS = 400
"""Maximum number of open streams and waiting requests in this process, half of them per owner."""
POLL_SECONDS, MAX_POLL_SECONDS = 0.5, 2.0
"""Interval between queries of the database (seconds): at first, and after a while without events."""
PING_SECONDS = 15.0
"""Interval of keep-alive comments (seconds). With them proxies keep the stream open, and the service notices
lost clients."""
RETRY_MILLISECONDS = 2_000
MAX_SECONDS = 900.0
"""Maximum duration of a stream (seconds). Then the client reconnects, and its key is checked again."""
# Proxies must not cache or buffer the stream.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_BUSY = (
    "Too many event streams and requests with `wait` are open. Ask for the state of the job every few "
    "seconds instead."
)


@dataclass(frozen=True)
class EventSource:
    """Source of new events. Each reader polls the database."""

    database: Database
    stopping: threading.Event
    """Set at shutdown. It ends all streams."""
    readers: Budget = field(default_factory=lambda: Budget(MAX_STREAMS, _BUSY))

    async def follow(
        self, owner: str, job_id: str, seen: int, seconds: float
    ) -> AsyncIterator[list[JobEvent]]:
        """Query the database repeatedly. Each time yield the events after number `seen`, possibly none.

        The iterator ends after `seconds`, at shutdown, or if the job was deleted. If the database is
        unavailable, events are delayed.
        """
        until, pause = time.monotonic() + seconds, POLL_SECONDS
        while not self.stopping.is_set() and (left := until - time.monotonic()) > 0:
            try:
                newer = await REQUESTS.run_as(owner, self._newer, job_id, seen)
            except (DatabaseUnavailable, ServerBusy) as error:
                logger.warning("Events are delayed: %s", error.detail)
                newer = []
            if newer is None:
                return
            seen = newer[-1].seq if newer else seen
            pause = POLL_SECONDS if newer else min(1.5 * pause, MAX_POLL_SECONDS)
            yield newer
            await asyncio.sleep(min(pause, left))

    def _newer(self, job_id: str, seen: int) -> list[JobEvent] | None:
        """Return the events after number `seen`, in order, or None if the job was deleted."""
        with self.database.read() as session:
            last = last_seq(session, job_id)
            if not last:
                return None
            return after(session, job_id, seen) if last > seen else []

    async def stream(self, owner: str, job_id: str, seen: int) -> AsyncIterator[bytes]:
        """Yield the events after `seen` in their wire format, until the job ends."""
        yield format_sse_event(retry=RETRY_MILLISECONDS)  # sends the headers at once
        sent = time.monotonic()
        # Another reader may have taken the last place since the check.
        with suppress(ServerBusy), self.readers.hold(owner, 1):
            async for newer in self.follow(owner, job_id, seen, MAX_SECONDS):
                if newer:
                    # Later events are about webhook deliveries, and appear only in the list.
                    end = next((i for i, event in enumerate(newer, 1) if event.type in FINAL), None)
                    yield b"".join(map(_encoded, newer[:end]))
                    if end is not None:
                        return
                elif time.monotonic() - sent >= PING_SECONDS:
                    yield KEEPALIVE_COMMENT
                else:
                    continue
                sent = time.monotonic()


def after(session: Session, job_id: str, seq: int) -> list[JobEvent]:
    """Return the events with a greater number than `seq`, in order."""
    later = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    return list(session.scalars(later.order_by(JobEvent.seq)))


def last_seq(session: Session, job_id: str) -> int:
    """Return the number of the newest event, or 0 if the job does not exist."""
    return session.scalar(select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id)) or 0


def end_seq(session: Session, job_id: str) -> int | None:
    """Return the number of the event that ended the job, or None. Later events are about its webhook."""
    return session.scalar(
        select(func.max(JobEvent.seq)).where(JobEvent.job_id == job_id, JobEvent.type.in_(FINAL))
    )


def to_event(row: JobEvent) -> Event:
    return Event(seq=row.seq, at=row.at, type=row.type, data=row.data)


def _encoded(event: JobEvent) -> bytes:
    name = "done" if event.type in FINAL else "progress" if event.type == PROGRESS else "log"
    return format_sse_event(event=name, id=str(event.seq), data_str=to_event(event).model_dump_json())


EventSourceDep = Annotated[EventSource, from_state("event_source")]
