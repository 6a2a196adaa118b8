# Generated from clipcite/client/_async/follow.py by `python -m tests.repository.unasync`. Do not edit.
"""Events of a job, streamed if possible, otherwise polled."""

import time
from collections.abc import Iterator

import httpx

from clipcite.client._sync.transport import Transport
from clipcite.client.errors import APIConnectionError
from clipcite.client.request import Request, parse_list, path_of, status_error
from clipcite.client.retry import RETRYABLE, is_over
from clipcite.client.sse import EventParser
from clipcite.wire.jobs import Event

SILENCE_SECONDS = 45
"""Read timeout of a stream. The service sends a comment every 15 s, so that a longer silence is a failure."""
POLL_SECONDS = 1.0
REOPEN_SECONDS = 0.3


class Follower:
    """Cursor in the events of a job. Each new connection resumes after the last event received."""

    def __init__(self, transport: Transport, job_id: str, after: int, until: float | None = None) -> None:
        """Start after event `after`. From `until` (monotonic clock) on, `next` returns without events."""
        self._transport = transport
        self._path = path_of("jobs", job_id, "events")
        self._seen = after
        self._until = until
        self._streams = True
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes]
        self._parser = EventParser()
        self._silent = True
        self._last_response = time.monotonic()
        self._failures = 0
        self._ended = False

    def close(self) -> None:
        """Close the stream, if one is open."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def next(self) -> list[Event] | None:
        """Return the next events, possibly none, or None at the end.

        Raises:
            APIConnectionError: an outage longer than `retry.patience_seconds`.
            APIStatusError: the job was deleted, or the key is no longer valid.
        """
        while not self._ended:
            receive = self._streamed if self._streams else self._polled
            try:
                events = receive()
            except APIConnectionError:
                # A stream that opened but stayed silent is buffered by a proxy: poll from now on.
                self._streams = self._response is None or not self._silent
                self.close()
                self._failures += 1
                if time.monotonic() - self._last_response > self._transport.retry.patience_seconds:
                    raise
                if is_over(self._until):
                    return []
                time.sleep(self._transport.retry.backoff(self._failures))
                continue
            self._last_response, self._failures = time.monotonic(), 0
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
        if chunk is None:  # the service restarts or ends long streams: resume with a new one
            self.close()
            time.sleep(REOPEN_SECONDS)
            return []
        self._silent = False
        return self._parser.feed(chunk)

    def _open(self) -> None:
        """Open a stream, unless the job has ended or the service offers none."""
        headers = {
            "Accept": "text/event-stream",
            "Last-Event-ID": str(self._seen),
            "Cache-Control": "no-store",
        }
        request = Request("GET", self._path, headers=headers, read_seconds=SILENCE_SECONDS)
        response = self._transport.open(request.until(self._until))
        if response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", ""):
            self._response, self._chunks = response, response.iter_bytes()
            self._parser, self._silent = EventParser(), True
            return
        response.close()
        if response.status_code in {401, 403, 404}:
            raise status_error(response)
        if response.status_code in RETRYABLE - {429}:
            raise APIConnectionError(f"Status {response.status_code} from the service.")
        if response.status_code == 204:
            self._ended = True
        else:
            self._streams = False

    def _polled(self) -> list[Event]:
        request = Request("GET", self._path, {"after": str(self._seen)})
        response = self._transport.request(request.until(self._until))
        if response.status_code in RETRYABLE:
            raise APIConnectionError(f"Status {response.status_code} from the service.")
        if response.status_code != 200:
            raise status_error(response)
        events, _ = parse_list(Event, response.content)
        if not events:
            time.sleep(POLL_SECONDS)
        return events
