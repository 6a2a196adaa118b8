"""Many clients in one process, each with one connection and one request in flight.

Requests are serialised before the clock starts, and only the length of a response is parsed: clients share
the processors with the service.
"""

import asyncio
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import httpx

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
GRACE_SECONDS = 60
"""Time for the last responses after the end."""

OnAnswer = Callable[[int, int, bytes], None]
"""Callback with the number of the request, the status and the body."""


@dataclass
class Load:
    """Responses of one measurement."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    """Seconds of the responses before the end."""
    statuses: Counter[int] = field(default_factory=Counter)
    client_cpu: float = 0.0
    """CPU seconds of the clients."""

    @property
    def rate(self) -> float:
        """Successful responses per second."""
        return self.statuses[200] / self.seconds

    @property
    def p50(self) -> float:
        return median(self.latencies) if self.latencies else float("nan")

    @property
    def errors(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)


def raw_request(url: str, data: Mapping[str, str], images: Sequence[bytes]) -> bytes:
    """Return the bytes of POST /classify, with these form fields and JPEG images."""
    files = [("images", (f"{i}.jpg", image, "image/jpeg")) for i, image in enumerate(images)]
    return raw(httpx.Request("POST", f"{url}/classify", data=dict(data), files=files))


def raw(request: httpx.Request) -> bytes:
    """Return the bytes of a request."""
    body = request.read()
    head = [f"POST {request.url.raw_path.decode()} HTTP/1.1"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*head, "", ""]).encode("ascii") + body


def load(
    url: str,
    requests: Iterator[tuple[int, bytes]],
    *,
    clients: int,
    seconds: float | None = None,
    on_answer: OnAnswer | None = None,
) -> Load:
    """Send requests until the time is over or the requests end.

    Args:
        requests: numbers, for `on_answer`, and bytes, distributed over the clients.
    """
    host, port = url.removeprefix("http://").split(":")
    return asyncio.run(_load(host, int(port), requests, clients, seconds, on_answer))


async def _load(
    host: str,
    port: int,
    requests: Iterator[tuple[int, bytes]],
    clients: int,
    seconds: float | None,
    on_answer: OnAnswer | None,
) -> Load:
    loop = asyncio.get_running_loop()
    found = Load(0.0)
    cpu, started = _cpu(), time.perf_counter()
    until = None if seconds is None else started + seconds
    protocols = [_Client(requests, until, found, on_answer, loop.create_future()) for _ in range(clients)]
    await asyncio.gather(
        *(loop.create_connection(lambda p=p: p, host, port) for p in protocols)  # type: ignore[misc]
    )
    limit = None if seconds is None else seconds + GRACE_SECONDS
    await asyncio.wait_for(asyncio.gather(*(p.done for p in protocols)), limit)
    found.seconds = seconds or time.perf_counter() - started
    found.client_cpu = _cpu() - cpu
    return found


class _Client(asyncio.Protocol):
    def __init__(
        self,
        requests: Iterator[tuple[int, bytes]],
        until: float | None,
        found: Load,
        on_answer: OnAnswer | None,
        done: "asyncio.Future[None]",
    ) -> None:
        self._requests, self._until, self._found, self._on_answer = requests, until, found, on_answer
        self.done = done
        self._transport: asyncio.Transport
        self._number = 0
        self._parts: list[bytes] = []
        self._missing: int | None = None  # missing bytes of the response, once its head is parsed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send_next()

    def _send_next(self) -> None:
        over = self._until is not None and time.perf_counter() >= self._until
        request = None if over else next(self._requests, None)
        if request is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._number, content = request
        self._parts, self._missing = [], None
        self._sent_at = time.perf_counter()
        self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if self._missing is None:
            head, found, body = b"".join(self._parts).partition(b"\r\n\r\n")
            if not found:
                return
            length = LENGTH.search(head)
            if length is None:
                self.done.set_exception(RuntimeError(f"A response has no Content-Length: {head[:200]!r}"))
                self._transport.close()
                return
            self._missing = int(length[1]) - len(body)
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        status = int(self._parts[0][9:12])
        if self._until is None or now <= self._until:
            self._found.statuses[status] += 1
            self._found.latencies.append(now - self._sent_at)
        if self._on_answer is not None:
            self._on_answer(self._number, status, b"".join(self._parts).partition(b"\r\n\r\n")[2])
        self._send_next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("The service closed the connection."))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
