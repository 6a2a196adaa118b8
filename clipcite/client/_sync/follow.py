# Generated from clipcite/client/_async/follow.py by `python -m tests.repository.unasync`. Do not edit.
"""Events of a job: from a stream where there can be one, otherwise by polling."""

import time
from collections.abc import Iterator

import httpx

from clipcite.client import job_requests
from clipcite.client._sync.transport import Transport
from clipcite.client.address import answer_of
from clipcite.client.errors import APIConnectionError
from clipcite.client.request import failure_of
from clipcite.client.retry import AGAIN, is_over
from clipcite.client.sse import EventParser
from clipcite.client.types import Event

SILENCE_SECONDS = 45
"""The service sends a comment every 15 s; without one the connection is dead."""
POLL_SECONDS = 1.0
REOPEN_SECONDS = 0.3


class Follower:
    """Position in a job's events. It outlives connections and restarts of the service: each new connection
    continues after the last event that was seen."""

    def __init__(self, transport: Transport, job_id: str, after: int, until: float | None = None) -> None:
        """`until`, on the monotonic clock: from then on `next` returns without events."""
        self._transport = transport
        self._job_id = job_id
        self._seen = after
        self._until = until
        self._streams = True
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes]
        self._parser = EventParser()
        self._silent = True
        self._heard = time.monotonic()
        self._failures = 0
        self._ended = False

    def close(self) -> None:
        """Close the stream, if one is open."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def next(self) -> list[Event] | None:
        """Return the next events; perhaps none, so that the caller can read the clock; None at the end.

        Raises:
            APIConnectionError: the service is away for longer than `retry.patience_seconds`.
            APIStatusError: the job is gone, or the key is no longer valid.
        """
        while not self._ended:
            receive = self._streamed if self._streams else self._polled
            try:
                events = receive()
            except APIConnectionError:
                # A stream that opened and stayed silent: a proxy holds it back.
                self._streams = self._response is None or not self._silent
                self.close()
                self._failures += 1
                if time.monotonic() - self._heard > self._transport.retry.patience_seconds:
                    raise
                if is_over(self._until):
                    return []
                time.sleep(self._transport.retry.backoff(self._failures))
                continue
            self._heard, self._failures = time.monotonic(), 0
            if events:
                self._seen = events[-1].seq
                self._ended = any(event.ends_job for event in events)
            return events
        return None

    def _streamed(self) -> list[Event]:
        if self._response is None:
            self._open()
        if self._response is None:
            return []
        with self._transport.connection_errors():
            chunk = next(self._chunks, None)
        if chunk is None:  # the service restarts, or ends long streams; the next stream has the rest
            self.close()
            time.sleep(REOPEN_SECONDS)
            return []
        self._silent = False
        return self._parser.feed(chunk)

    def _open(self) -> None:
        """Open a stream, unless the job has ended or this service has none."""
        request = job_requests.stream(self._job_id, self._seen, self._patience())
        response = self._transport.open(request)
        if response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", ""):
            self._response, self._chunks = response, response.iter_bytes()
            self._parser, self._silent = EventParser(), True
            return
        response.close()
        if response.status_code in {401, 403, 404}:
            raise failure_of(answer_of(response))
        if response.status_code in AGAIN - {429}:
            raise APIConnectionError(f"The service answers {response.status_code}.")
        if response.status_code == 204:
            self._ended = True
        else:
            self._streams = False

    def _polled(self) -> list[Event]:
        call = job_requests.events(self._job_id, self._seen)
        answer = self._transport.request(call.request)
        if answer.status in AGAIN:
            raise APIConnectionError(f"The service answers {answer.status}.")
        if answer.status != 200:
            raise failure_of(answer)
        events = call.read(answer)
        if not events:
            time.sleep(POLL_SECONDS)
        return events

    def _patience(self) -> float:
        left = SILENCE_SECONDS if self._until is None else self._until - time.monotonic()
        return max(0.1, min(SILENCE_SECONDS, left))
