"""One process of the API, whose memory and CPU time are measured while requests are sent."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

import psutil
import pytest

from benchmarks.running_api import running_api
from core.clip.models.backbone import Backbone

MB = 1_000_000
MOST = 6_000 * MB
"""Memory above which the service is killed, to protect the machine (bytes)."""
T = TypeVar("T")


class Measured:
    """The process of a service."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.process = psutil.Process(pid)

    def resident(self) -> int:
        """Return the memory of the service and its decoders (bytes). What they share counts once."""
        sizes = [_sizes(p.pid) for p in (self.process, *self.process.children(recursive=True))]
        shared = max(sizes[0]["RssShmem"], sum(s.get("RssShmem", 0) for s in sizes[1:]))
        return sum(s.get("RssAnon", 0) for s in sizes) + shared

    def cpu(self) -> float:
        """Return the CPU seconds of the service and its decoders, those that have ended included."""
        own = self.process.cpu_times()
        total = float(own.user + own.system + own.children_user + own.children_system)
        for child in self.process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                total += sum(child.cpu_times()[:2])
        return total

    def cost(self, send: Callable[[], T]) -> tuple[T, int, float]:
        """Return the result, the growth of the memory meanwhile (bytes), and the CPU seconds."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # reset the peak
        highest = before = self.resident()
        spent = self.cpu()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            while wait([sending], 0.02).not_done:
                highest = max(highest, self.resident())
                if highest > MOST:
                    self.process.kill()
                    pytest.fail(f"The service took {highest / 1e9:.1f} GB.")
            result = sending.result()
        own = _sizes(self.process.pid)
        return result, max(highest, own["VmHWM"] - own["RssFile"]) - before, self.cpu() - spent


@contextmanager
def measured(data: Path, backbone: Backbone, stderr: IO[bytes] | None = None) -> Iterator[Measured]:
    """Run a service on a folder with a migrated database."""
    environment = {
        "CLIPCITE_DATA": str(data),
        "CLIPCITE_CACHE": str(data / "cache"),
        "CLIPCITE_BACKBONE": backbone.name,
        # Free memory immediately: memory kept by the allocator would hide the next request's growth.
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }
    with running_api(environment, stderr=stderr) as running:
        yield Measured(running.url, running.pid)


def _sizes(pid: int) -> dict[str, int]:
    """Return the kernel's sizes of a process (bytes), none if it has ended."""
    with suppress(OSError):
        lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return {
            words[0][:-1]: 1024 * int(words[1]) for words in lines if words[0].startswith(("Rss", "VmHWM"))
        }
    return {}
