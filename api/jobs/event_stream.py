"""/jobs/{id}/events: what happened to a job, as a list or as it happens."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel

from api.deps import TheDatabase, TheFeed, TheOwner
from api.event_hub import Event, Feed
from api.problems import responses
from core.store.jobs import events, jobs

router = APIRouter(prefix="/jobs", tags=["jobs"])
PING_SECONDS = 15.0
"""A comment now and then, so that proxies see that the stream is alive, and we that nobody listens."""
RETRY_MILLISECONDS = 2_000
LONGEST_SECONDS = 900.0
"""Then a stream ends in mid-job and its reader comes back by itself: with a key that is still good."""
MOST = 2**31 - 1
# Proxies must neither keep the stream nor wait until a buffer is full.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
STREAM_EXAMPLE = """event: log
data: {"seq":2,"at":"2026-11-25T02:05:12.789436Z","type":"started","data":{"worker":"gpu1:4711"}}
id: 2

event: progress
data: {"seq":9,"at":"2026-11-25T02:05:20.011273Z","type":"progress","data":{"stage":"training"}}
id: 9

event: done
data: {"seq":31,"at":"2026-11-25T02:06:03.690667Z","type":"succeeded","data":{"model_id":"mdl_01m8…"}}
id: 31

"""

After = Annotated[int, Query(ge=0, le=MOST, description="Only events with a greater `seq`.")]
LastEventId = Annotated[
    int | None,
    Header(ge=0, le=MOST, description="For a stream: go on after this `id`. Browsers send it by themselves."),
]


class EventList(BaseModel):
    data: list[Event]


@router.get(
    "/{job_id}/events",
    response_model=EventList,
    responses={
        200: {
            "description": "The list; with `Accept: text/event-stream` the stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}},
        },
        204: {"description": "The stream has nothing more to come: the job has ended, and `done` was sent."},
        **responses(401, 404, 422, 503),
    },
)
def list_events(
    database: TheDatabase,
    feed: TheFeed,
    owner: TheOwner,
    job_id: str,
    after: After = 0,
    last_event_id: LastEventId = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:
    """What happened to the job, in order, each with a growing `seq`.

    With `Accept: text/event-stream` a stream that goes on until the job has ended: `progress` while it
    trains (at most once per second), `log` for all else that happens, `done` at the end (`type` says how
    it ended). Each has the `seq` as its `id`, and the entry of the list as its data. After a lost
    connection it resumes with `Last-Event-ID`, at this or any other process of the service. It ends by itself
    after 15 minutes, and is to be resumed then too.

    Of `progress` the last entry for each percent of a stage is kept, until a week after the end.
    """
    streamed = "text/event-stream" in (part.split(";")[0].strip().lower() for part in accept.split(","))
    with database.read() as session:
        if not streamed:
            return EventList(
                data=[Event.of(event) for event in jobs.events(session, job_id, after, owner=owner)]
            )
        job = jobs.get(session, job_id, owner=owner)
        last = events.last_seq(session, job.id)
        end = events.end_seq(session, job.id)
    seen = min(after if last_event_id is None else last_event_id, last)
    if end is not None and seen >= end:
        return Response(status_code=204)  # a browser asks again after every end, until it hears this
    feed.check_room(owner)
    return EventSourceResponse(stream(feed, job.id, seen, owner), headers=STREAM_HEADERS)


async def stream(feed: Feed, job_id: str, seen: int, owner: str) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)  # the headers go out with it, at once
    until = time.monotonic() + LONGEST_SECONDS
    with feed.listen(job_id, seen, owner) as listener:
        while time.monotonic() < until and (news := await listener.next(PING_SECONDS)) is not None:
            # What comes after the end, the webhook's fate, is for the list.
            end = next((i for i, item in enumerate(news, 1) if item.last), None)
            yield b"".join(item.wire for item in news[:end]) or KEEPALIVE_COMMENT
            if end is not None:
                return
