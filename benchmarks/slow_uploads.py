"""Latency of other requests beside fifty uploads of one byte per second (slow loris).

    python -m benchmarks.slow_uploads --rounds 6 --requests 300

The setup is a tiny network and one API process. Rounds with and without slow uploads alternate. Each round
sends three kinds of requests: a list of jobs, a classification, a small upload that is refused. The output is
the median over the rounds of p50 and p99, and their ratios, also as JSON.
"""

import argparse
import json
import socket
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx

from benchmarks.running_api import running_api
from core.store.db import migrate
from tests.api import crafted
from tests.core.clip.tiny import make_tiny_backbone

BODY_BYTES = 1_000_000
HEAD = (
    "POST /adapt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    f"Content-Length: {BODY_BYTES}\r\n\r\n"
    '--x\r\nContent-Disposition: form-data; name="archive"; filename="a.zip"\r\n\r\n'
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--uploads", type=int, default=50)
    parser.add_argument(
        "--rounds", type=int, default=6, help="number of rounds, half of them with slow uploads (default 6)"
    )
    parser.add_argument(
        "--requests", type=int, default=300, help="number of requests per kind and round (default 300)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args(arguments)
    seconds: dict[tuple[str, bool], list[list[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = Path(folder) / "data"
        migrate.upgrade(f"sqlite:///{data / 'clipcite.db'}")
        environment = {
            "CLIPCITE_DATA": str(data),
            "CLIPCITE_CACHE": f"{folder}/cache",
            "CLIPCITE_BACKBONE": make_tiny_backbone(Path(folder) / "backbone"),
            "CLIPCITE_BACKBONE_FOLDER": folder,
            "CLIPCITE_UPLOAD_IDLE_SECONDS": "3600",  # the default would end the uploads within a round
        }
        url = stack.enter_context(running_api(environment)).url
        http = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        kinds: dict[str, Callable[[], httpx.Response]] = {
            "GET /jobs": lambda: http.get("/jobs"),
            "POST /classify": lambda: http.post(
                "/classify",
                data={"class_names": ["red", "green"]},
                files={"images": ("a.jpg", crafted.jpeg())},
            ),
            "POST /adapt, refused": lambda: http.post("/adapt", files={"archive": ("a.zip", b"no archive")}),
        }
        for request in kinds.values():  # warm up
            request()
        for number in range(options.rounds):
            slow = number % 2 == 1
            with slow_uploads(url, options.uploads if slow else 0):
                for kind, request in kinds.items():
                    seconds[kind, slow].append([timed(request) for _ in range(options.requests)])
    rows = [(kind, summary(seconds[kind, False]), summary(seconds[kind, True])) for kind in kinds]
    print(f"milliseconds, alone → beside {options.uploads} slow uploads (ratio)")
    print("| request | p50 | p99 |\n|---|---|---|")
    for kind, alone, beside in rows:
        both = [f"{1000 * a:.1f} → {1000 * b:.1f} ({b / a:.2f})" for a, b in zip(alone, beside, strict=True)]
        print(f"| {kind} | {' | '.join(both)} |")
    options.out.mkdir(parents=True, exist_ok=True)
    result = [{"request": kind, "alone": alone, "beside": beside} for kind, alone, beside in rows]
    (options.out / "slow-uploads.json").write_text(json.dumps(result, indent=2))


def timed(request: Callable[[], httpx.Response]) -> float:
    started = time.perf_counter()
    answer = request()
    assert answer.status_code < 500, answer.text
    return time.perf_counter() - started


def summary(rounds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the medians over the rounds of p50 and p99, in seconds."""
    return median(map(median, rounds)), median(quantiles(r, n=100)[98] for r in rounds)


@contextmanager
def slow_uploads(url: str, number: int) -> Iterator[None]:
    """Keep `number` uploads open, each of which sends one byte per second."""
    port = int(url.rpartition(":")[2])
    stop = threading.Event()
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            connection.sendall(HEAD.encode() + bytes(2_000))
            opened.append(connection)

        def trickle() -> None:
            while not stop.wait(1):
                for connection in opened:
                    connection.sendall(b"x")

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            yield
        finally:
            stop.set()
            sender.join()


if __name__ == "__main__":
    main()
