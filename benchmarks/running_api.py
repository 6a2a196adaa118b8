"""The API alone, as a separate process."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from admin.processes import API, defaults
from tests.servers import free_port
from tests.service.running import is_ready, wait_for

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
    port = free_port()
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
        wait_for(
            lambda: is_ready(url),
            seconds=START_SECONDS,
            unless=lambda: process.poll() is not None,
            explain=lambda: "The service did not start. Its output is above.",
        )
        yield RunningApi(url, process.pid)
    finally:
        process.terminate()
        process.wait(20)
