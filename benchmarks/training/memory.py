"""Time and peak memory of a training, of the process or of the GPU."""

import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Meter:
    seconds: float = 0.0
    peak_bytes: int = 0
    loaded_bytes: int = 0


@contextmanager
def measuring(device: torch.device) -> Iterator[Meter]:
    """Measure the seconds and the peak memory of the block."""
    meter, started = Meter(), time.monotonic()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        meter.loaded_bytes = torch.cuda.memory_allocated(device)
    else:
        # Reset the peak: loading held the weights twice.
        Path("/proc/self/clear_refs").write_text("5")
        meter.loaded_bytes = _process_memory("VmRSS")
    yield meter
    meter.seconds = time.monotonic() - started
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _process_memory("VmHWM")
    meter.peak_bytes = peak


def _process_memory(field: str) -> int:
    # Not ru_maxrss: it cannot be reset, and a process inherits it from its parent.
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
