"""Following a job: a stream of its events where there can be one, otherwise asking again and again."""

import time

from clipcite.client import job_requests
from clipcite.client.errors import APIConnectionError
from clipcite.client.failure import failure_of
from clipcite.client.request import Answer
from clipcite.client.retry import AGAIN, Retry
from clipcite.client.sse import EventParser
from clipcite.client.steps import Open, Read, Send, Sleep, Steps
from clipcite.client.types import Event

PROGRESS = "progress"
SILENCE_SECONDS = 45
"""The service sends a comment every 15 s; without one the connection is dead."""
POLL_SECONDS = 1.0
AGAIN_SECONDS = 0.3


class Follower:
    """Where we are in a job's events. Outlives connections and restarts of the service: it goes on after
    the last event that was seen."""

    def __init__(self, job_id: str, after: int, retry: Retry, until: float | None = None) -> None:
        """`until`, on the monotonic clock: from then on `next` comes back without news."""
        self._job_id = job_id
        self._seen = after
        self._retry = retry
        self._until = until
        self._streams = True
        self._open: EventParser | None = None
        self._silent = True
        self._heard = time.monotonic()
        self._failures = 0
        self._ended = False

    def next(self) -> Steps[list[Event] | None]:
        """The next events; perhaps none, where one may want to look at the clock; None at the end.

        Raises:
            APIConnectionError: away for longer than `retry.patience_seconds`.
            APIStatusError: the job is gone, or the key opens nothing any more.
        """
        while not self._ended:
            try:
                events = yield from (self._streamed() if self._streams else self._polled())
            except APIConnectionError:
                # Opened, but nothing came through: something between us keeps it back.
                self._streams = self._open is None or not self._silent
                self._open = None
                self._failures += 1
                if time.monotonic() - self._heard > self._retry.patience_seconds:
                    raise
                if self._until is not None and time.monotonic() >= self._until:
                    return []
                yield Sleep(self._retry.backoff(self._failures))
                continue
            self._heard, self._failures = time.monotonic(), 0
            if events:
                self._seen = events[-1].seq
                self._ended = any(event.ends_job for event in events)
            return events
        return None

    def _streamed(self) -> Steps[list[Event]]:
        if self._open is None:
            answer: Answer = yield Open(job_requests.stream(self._job_id, self._seen, self._patience()))
            if answer.status == 204:
                self._ended = True
                return []
            if answer.status in {401, 403, 404}:
                raise failure_of(answer)
            if answer.status in AGAIN - {429}:
                raise APIConnectionError(f"The service answers {answer.status}.")
            if answer.status != 200 or "text/event-stream" not in answer.headers.get("content-type", ""):
                self._streams = False
                return []
            self._open, self._silent = EventParser(), True
        chunk: bytes | None = yield Read()
        if chunk is None:  # it is restarted, or ends long streams; what follows is in the next one
            self._open = None
            yield Sleep(AGAIN_SECONDS)
            return []
        self._silent = False
        return self._open.feed(chunk)

    def _polled(self) -> Steps[list[Event]]:
        call = job_requests.events(self._job_id, self._seen)
        answer: Answer = yield Send(call.request)
        if answer.status in AGAIN:
            raise APIConnectionError(f"The service answers {answer.status}.")
        if answer.status != 200:
            raise failure_of(answer)
        events = call.read(answer)
        if not events:
            yield Sleep(POLL_SECONDS)
        return events

    def _patience(self) -> float:
        left = SILENCE_SECONDS if self._until is None else self._until - time.monotonic()
        return max(0.1, min(SILENCE_SECONDS, left))
