"""Attacks by connections: uploads while the storage hangs, long polls, clients that do not read."""

import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import Thread
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.attacks.measure import MB, SAMPLE_SECONDS, Limits, Row
from benchmarks.attacks.service import Target, run_concurrently
from tests.api import crafted as images

STALL_SECONDS = 15
POLL_SECONDS = 15
UNREAD_SECONDS = 75
OCCUPY_SECONDS = 10
STORAGE = "ATTACKED_STORAGE"


def rows(small: bool, times: int) -> list[Row]:
    uploads, waiters, readers, senders = (8, 20, 5, 8) if small else (40, 600, 30, 16)
    bursts, slow = (10 * times, 2 * times) if small else (40 * times, 12 * times)
    return [
        Row(
            "A8",
            f"{uploads} uploads while the storage hangs for {STALL_SECONDS} s",
            lambda target: stalled_uploads(target, uploads),
            None,
            Limits(growth=200 * MB),
            statuses=frozenset({202, 429, 503}),
            repeats=False,
            seconds=120,
            around=bucket,
        ),
        Row(
            "A10",
            f"{waiters} clients wait for a job for {POLL_SECONDS} s; honest: each polls once",
            lambda target: wait_for_a_job(target, waiters, POLL_SECONDS),
            lambda target: wait_for_a_job(target, waiters, 0),
            Limits(growth=200 * MB, cpu=2),
            statuses=frozenset({200, 503}),
            repeats=False,
        ),
        Row(
            "A14",
            f"{senders} clients of one owner classify 64 images each for {OCCUPY_SECONDS} s, by four names",
            lambda target: occupy(target, senders),
            None,
            Limits(wait=None),
            statuses=frozenset({200, 404, 503}),
            repeats=False,
            seconds=120,
        ),
        Row(
            "A18",
            f"{bursts} uploads without a key, of 43,000 chunks of one byte",
            lambda target: small_chunks(target, bursts),
            None,
            Limits(growth=100 * MB),
            statuses=frozenset({401}),
        ),
        Row(
            "A19",
            f"{slow} clients classify with a thousand long names, and read 10 kB/s",
            lambda target: slow_readers(target, slow),
            None,
            Limits(growth=700 * MB, answer=None),
            repeats=False,
            seconds=120,
            environment={"CLIPCITE_MEMORY_BYTES": "500000000"},
        ),
        Row(
            "A11",
            f"{readers} clients send 1,500 requests and do not read",
            lambda target: unread(target, readers),
            None,
            Limits(growth=100 * MB),
            repeats=False,
            seconds=UNREAD_SECONDS + 30,
        ),
    ]


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """Run a storage server and yield its settings. STORAGE has the id of its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                httpx.put(f"{url}/attacks", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield {
            "CLIPCITE_BLOB_URL": "s3://attacks/here",
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            STORAGE: str(process.pid),
        }
    finally:
        process.kill()
        process.wait()


def stalled_uploads(target: Target, uploads: int) -> None:
    """Upload while the storage is suspended, then resume it so that the uploads end."""
    storage = psutil.Process(int(target.environment[STORAGE]))
    archive = images.zip_of(images.two_classes(2))

    def upload() -> None:
        target.send("POST", "/adapt", files={"archive": ("a.zip", archive)})

    storage.suspend()
    uploading = Thread(target=lambda: run_concurrently([upload] * uploads), daemon=True)
    uploading.start()
    time.sleep(STALL_SECONDS)
    storage.resume()
    uploading.join()


def wait_for_a_job(target: Target, waiters: int, seconds: int) -> None:
    """Wait for a job that never ends, because no worker runs."""
    archive = images.zip_of(images.two_classes(2))
    job = target.http.post("/adapt", files={"archive": ("a.zip", archive)}).raise_for_status().json()["id"]
    path = f"/jobs/{job}" + (f"?wait={seconds}" if seconds else "")
    run_concurrently([lambda: target.send("GET", path)] * waiters)


def occupy(target: Target, clients: int) -> None:
    """Fill the places for images, under several names: the limit per model alone leaves none free."""
    files = [("images", (f"{i}.jpg", images.jpeg(i))) for i in range(64)]
    until = time.monotonic() + OCCUPY_SECONDS

    def send(model: str) -> None:
        fields = {"class_names": ["red", "green"], "model": model}
        while time.monotonic() < until:
            target.send("POST", "/classify", data=fields, files=files)

    models = ["stock", *(f"none-{i}" for i in range(3))]
    run_concurrently([partial(send, models[i % len(models)]) for i in range(clients)])


def small_chunks(target: Target, bursts: int) -> None:
    """Send the heads of uploads with many chunks in one burst each, and close."""
    port = urlsplit(target.url).port
    assert port is not None
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(bursts):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with suppress(OSError):  # refused meanwhile
                client.sendall(head + 43_000 * b"1\r\nx\r\n")


def slow_readers(target: Target, clients: int) -> None:
    """Request the largest answers, and read them at 10 kB/s for OCCUPY_SECONDS."""
    names = [f"{i:04}" + "\N{RED APPLE}" * 196 for i in range(1_000)]
    encoded = b64encode(images.jpeg()).decode()
    body = {"class_names": names, "models": ["stock"], "images": [{"base64": encoded}] * 64}

    def read() -> None:
        with target.http.stream("POST", "/classify", json=body, timeout=60) as answer:
            for _, _ in zip(range(OCCUPY_SECONDS), answer.iter_bytes(10_000), strict=False):
                time.sleep(1)

    run_concurrently([read] * clients)


def unread(target: Target, clients: int) -> None:
    """Request more than the buffers hold, and count the connections left after UNREAD_SECONDS."""
    port = urlsplit(target.url).port
    assert port is not None
    request = b"GET /page/style.css HTTP/1.1\r\nHost: x\r\n\r\n" * 1_500
    with ExitStack() as stack:
        mine = set()
        for _ in range(clients):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            client.connect(("127.0.0.1", port))
            client.settimeout(SAMPLE_SECONDS)
            with suppress(OSError):  # the server has stopped reading
                client.sendall(request)
            mine.add(client.getsockname()[1])
        until = time.monotonic() + UNREAD_SECONDS
        while (left := _connected(target, mine)) and time.monotonic() < until:
            time.sleep(1)
    target.note = f"{clients - left} of {clients} closed"
    if left:
        target.broken.append(f"{left} of {clients} connections open after {UNREAD_SECONDS} s")


def _connected(target: Target, ports: set[int]) -> int:
    """Return the number of these ports to which the service still holds a connection."""
    connections = target.process.net_connections("tcp")
    return sum(1 for c in connections if c.raddr and c.raddr.port in ports and c.status != "TIME_WAIT")
