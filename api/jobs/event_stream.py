"""/jobs/{id}/events: what happened to a job, as a list or as it happens."""

import time
from collections.abc import AsyncIterator

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from api.event_hub import Event, EventHub
from api.jobs.schemas import EventList
from core.store.db.session import Database
from core.store.jobs import events, jobs

PING_SECONDS = 15.0
"""A comment now and then, so that proxies see that the stream is alive, and we that nobody listens."""
RETRY_MILLISECONDS = 2_000
MAX_SECONDS = 900.0
"""Then a stream ends in mid-job and its reader comes back by itself: with a key that is still good."""
# Proxies must neither keep the stream nor wait until a buffer is full.
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
    """The list of events, or their stream where `accept` names it; 204 for a stream that has ended."""
    streamed = "text/event-stream" in (part.split(";")[0].strip().lower() for part in accept.split(","))
    with database.read() as session:
        if not streamed:
            found = jobs.events(session, job_id, after, owner=owner)
            return EventList(data=[Event.of(event) for event in found])
        job = jobs.get(session, job_id, owner=owner)
        last = events.last_seq(session, job.id)
        end = events.end_seq(session, job.id)
    seen = min(after if last_event_id is None else last_event_id, last)
    if end is not None and seen >= end:
        return Response(status_code=204)  # a browser asks again after every end, until it hears this
    hub.check_room(owner)
    return EventSourceResponse(stream(hub, job.id, seen, owner), headers=STREAM_HEADERS)


async def stream(feed: EventHub, job_id: str, seen: int, owner: str) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)  # the headers go out with it, at once
    until = time.monotonic() + MAX_SECONDS
    with feed.listen(job_id, seen, owner) as listener:
        while time.monotonic() < until and (news := await listener.next(PING_SECONDS)) is not None:
            # What comes after the end, the webhook's fate, is for the list.
            end = next((i for i, item in enumerate(news, 1) if item.last), None)
            yield b"".join(item.wire for item in news[:end]) or KEEPALIVE_COMMENT
            if end is not None:
                return
