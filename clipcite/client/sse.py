"""Incremental parser of server-sent events."""

from dataclasses import dataclass, field

from clipcite.client.request import json_of, parse
from clipcite.wire.jobs import Event


@dataclass
class EventParser:
    """Parser of the service's event streams. The data of each event are one line of JSON."""

    _rest: bytes = field(default=b"", repr=False)

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes.

        Raises:
            APIResponseValidationError: the data of an event are no event in JSON.
        """
        *blocks, self._rest = (self._rest + chunk.replace(b"\r\n", b"\n")).split(b"\n\n")
        events = []
        for block in blocks:
            data = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
            if data:
                events.append(parse(Event, json_of(b"\n".join(data))))
        return events
