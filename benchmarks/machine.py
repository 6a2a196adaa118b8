"""Description of the machine."""

import platform
import re
from pathlib import Path


def processor() -> str:
    """Return the name of the processor, or its architecture if the system has no name."""
    cpu = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpu.read_text(), re.MULTILINE) if cpu.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
