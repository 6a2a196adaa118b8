"""`clipcite serve` on a free port, with the peak memory of its processes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.servers import free_port
from tests.service.running import is_ready, wait_for

READY_SECONDS = 900
POLL_SECONDS = 0.2


@dataclass
class Service:
    """`clipcite serve` with the peak memory of its processes."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path
    peaks: dict[str, int] = field(default_factory=dict)
    """Peak memory (bytes) by module, since `reset`."""

    def reset(self) -> None:
        self.peaks.clear()

    def memory(self, module: str) -> int:
        """Return the present memory of a process (bytes)."""
        return next((process.memory_info().rss for name, process in self._processes() if name == module), 0)

    def watch(self, stop: threading.Event) -> None:
        """Follow the peak memory of all processes until `stop`."""
        while not stop.wait(POLL_SECONDS):
            for module, process in self._processes():
                peak = re.search(r"^VmHWM:\s+(\d+) kB", _status(process.pid), re.MULTILINE)
                if peak:
                    self.peaks[module] = max(1024 * int(peak[1]), self.peaks.get(module, 0))

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield the Python processes of the service, by module."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    command = child.cmdline()
                    if command[1:2] == ["-m"]:
                        yield command[2], child


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:  # the process has ended
        return ""


@contextlib.contextmanager
def running_service(folder: Path, settings: dict[str, str]) -> Iterator[tuple[Service, float]]:
    """Start `clipcite serve`, and yield it with the seconds until it was ready."""
    url, log = f"http://127.0.0.1:{free_port()}", folder / "service.log"
    command = [
        sys.executable,
        "-m",
        "clipcite",
        "serve",
        "--no-token",
        "--port",
        url.rpartition(":")[2],
    ]
    started, stop = time.monotonic(), threading.Event()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data", str(folder / "data")],
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    service = Service(url, process, log)
    try:
        wait_for(
            lambda: is_ready(url),
            seconds=READY_SECONDS,
            unless=lambda: process.poll() is not None,
            explain=log.read_text,
        )
        ready = time.monotonic() - started
        threading.Thread(target=service.watch, args=(stop,), daemon=True).start()
        yield service, ready
    finally:
        stop.set()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
