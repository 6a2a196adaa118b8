"""Description of the machine and of the code."""

import os
import platform
import re
import subprocess
from pathlib import Path


def processor() -> str:
    """Return the name of the processor, or its architecture if the system has no name."""
    cpu = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpu.read_text(), re.MULTILINE) if cpu.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def load_average() -> float:
    """Return the mean number of runnable processes during the last minute, this one included."""
    return os.getloadavg()[0]


def commit() -> str:
    """Return the commit of the checkout, with "+" if files differ from it; "" outside a checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parents[1]
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
