"""GET /jobs/{id}/events: the events of a job, as a list or as a stream (server-sent events)."""

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from api.jobs.event_hub import EventHub, to_event
from clipcite.wire.jobs import EventList
from core.store.db.session import Database
from core.store.jobs import events, jobs

PING_SECONDS = 15.0
"""Interval of keep-alive comments. Proxies keep the stream open, and the service notices lost clients."""
RETRY_MILLISECONDS = 2_000
MAX_SECONDS = 900.0
"""Maximum duration of a stream. The client then reconnects, and its key is checked again."""
# Proxies must neither cache nor buffer the stream.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def answer_events(
    database: Database,
    hub: EventHub,
    owner: str,
    job_id: str,
    after: int,
    last_event_id: int | None,
    accept: str,
) -> EventList | Response:
    """Return the list of events, or their stream if `accept` names it. A finished stream gives 204.

    Raises:
        JobNotFound: the owner has no such job.
        TooManyStreams: the owner has reached the limit.
    """
    streamed = "text/event-stream" in (part.split(";")[0].strip().lower() for part in accept.split(","))
    with database.read() as session:
        if not streamed:
            rows = jobs.events(session, job_id, after, owner=owner)
            return EventList(data=[to_event(row) for row in rows])
        job = jobs.get(session, job_id, owner=owner)
        last = events.last_seq(session, job.id)
        end = events.end_seq(session, job.id)
    seen = min(after if last_event_id is None else last_event_id, last)
    if end is not None and seen >= end:
        return Response(status_code=204)  # browsers reconnect after every end until they get this status
    hub.check_room(owner)
    return EventSourceResponse(stream(hub, job.id, seen, owner), headers=STREAM_HEADERS)


async def stream(hub: EventHub, job_id: str, seen: int, owner: str) -> AsyncIterator[bytes]:
    """Yield the events after `seen` in their wire format, until the job ends."""
    yield format_sse_event(retry=RETRY_MILLISECONDS)  # sends the headers at once
    until = time.monotonic() + MAX_SECONDS
    with hub.listen(job_id, seen, owner) as listener:
        while time.monotonic() < until and (received := await listener.next(PING_SECONDS)) is not None:
            # Later events, about the webhook delivery, are only in the list.
            end = next((i for i, event in enumerate(received, 1) if event.last), None)
            yield b"".join(event.wire for event in received[:end]) or KEEPALIVE_COMMENT
            if end is not None:
                return


async def _event_hub(request: Request) -> EventHub:
    hub: EventHub = request.app.state.event_hub
    return hub


EventHubDep = Annotated[EventHub, Depends(_event_hub)]
