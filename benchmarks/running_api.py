"""The API alone, as a separate process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import httpx

from admin.processes import API, defaults

START_SECONDS = 300


@dataclass(frozen=True)
class RunningApi:
    url: str
    pid: int


@contextmanager
def running_api(
    environment: Mapping[str, str], *, code: str | None = None, stderr: IO[bytes] | None = None
) -> Iterator[RunningApi]:
    """Run `python -m api` with these settings: yield once it is ready, and stop it afterwards.

    Args:
        code: Python code to run instead.
        stderr: file for its log.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *(("-m", "api") if code is None else ("-c", code))],
        env={
            **defaults(API),
            **os.environ,
            "CLIPCITE_REQUIRE_TOKEN": "false",
            **environment,
            "CLIPCITE_PORT": str(port),
        },
        stderr=stderr,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_SECONDS
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("The service did not start. Its output is above.")
            time.sleep(0.2)
        yield RunningApi(url, process.pid)
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).is_success
    except httpx.HTTPError:
        return False
