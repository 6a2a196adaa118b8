"""What the figures were measured on."""

import platform
import re
from pathlib import Path


def processor() -> str:
    """Its name, as far as the system tells."""
    cpu = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpu.read_text(), re.MULTILINE) if cpu.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
