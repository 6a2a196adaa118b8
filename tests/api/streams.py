"""Server-sent events from the reader's side."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

STREAM = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Heard:
    event: str
    id: int
    data: dict[str, Any]

    @property
    def type(self) -> str:
        kind: str = self.data["type"]
        return kind


def events_in(lines: Iterable[str]) -> Iterator[Heard]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            yield Heard(fields["event"], int(fields["id"]), json.loads(fields["data"]))
        fields = {}


async def connect(port: int, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a stream and wait for its first bytes. Garbage collection of the writer closes the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"Host: 127.0.0.1\r\nAccept: {STREAM['Accept']}\r\nConnection: close\r\n"
    writer.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\n{head}\r\n".encode())
    start = await reader.readuntil(b"retry: ")
    assert start.startswith(b"HTTP/1.1 200"), start
    return reader, writer
