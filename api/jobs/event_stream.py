"""/jobs/{id}/events: what happened to a job, as a list or as it happens."""

import time
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from api.event_hub import EventHub

router = APIRouter(prefix="/jobs", tags=["jobs"])
PING_SECONDS = 15.0
"""A comment now and then, so that proxies see that the stream is alive, and we that nobody listens."""
RETRY_MILLISECONDS = 2_000
MAX_SECONDS = 900.0
"""Then a stream ends in mid-job and its reader comes back by itself: with a key that is still good."""
# Proxies must neither keep the stream nor wait until a buffer is full.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


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
