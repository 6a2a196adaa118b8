"""Server-sent events, as their bytes come in."""

import json
from dataclasses import dataclass, field

from clipcite.client.parse import parse
from clipcite.client.types import Event


@dataclass
class EventParser:
    """Of what the service sends: lines end with a newline, and an event's data are one line of JSON."""

    _rest: bytes = field(default=b"", repr=False)

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete by now."""
        *whole, self._rest = (self._rest + chunk.replace(b"\r\n", b"\n")).split(b"\n\n")
        found = []
        for block in whole:
            data = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
            if data:
                found.append(parse(Event, json.loads(b"\n".join(data))))
        return found
