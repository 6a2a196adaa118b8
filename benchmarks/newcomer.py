"""Time from a checkout to the first classification, step by step.

    python -m benchmarks.newcomer

Everything is fresh: a copy of this checkout in a temporary folder, the virtual environment, caches and data.
Packages come from the machine's configured indexes, without pip's cache. The commands are those of
docs/tutorials/terminal.md. The table is written into that page, between its markers.
"""

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import processor

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorials" / "terminal.md"
START, END = "<!-- newcomer -->\n", "<!-- /newcomer -->"
LEFT_OUT = (
    ".git",
    ".venv",
    "build",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
    ".hypothesis",
    "benchmark-results",
)
READY_SECONDS = 300
SERVE = ".venv/bin/clipcite serve"


@dataclass(frozen=True)
class Step:
    name: str
    command: str
    seconds: float


def commands_of(page: str) -> list[tuple[str, str]]:
    """Return the heading and the commands of each step, in order."""
    found = re.findall(r"^## \d+\. (.+?)$.*?^```(?:sh|bash)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [(name, commands) for name, commands in found]


def walk(folder: Path, steps: Sequence[tuple[str, str]], environment: dict[str, str]) -> Iterator[Step]:
    with contextlib.ExitStack() as stack:
        for name, commands in steps:
            print(f"\n== {name}\n{commands}", flush=True)
            started = time.monotonic()
            if commands.startswith(SERVE):
                stack.enter_context(_served(folder, commands, environment))
            else:
                subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, env=environment, check=True
                )
            yield Step(name, commands, time.monotonic() - started)


@contextlib.contextmanager
def _served(folder: Path, command: str, environment: dict[str, str]) -> Iterator[None]:
    """Run the service in the background, and yield once it prints that it is ready."""
    log = folder / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=folder, env=environment, stdout=file, stderr=file
        )
    try:
        until = time.monotonic() + READY_SECONDS
        while "Ready:" not in (output := log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"The service does not start:\n{output}")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def table(steps: Sequence[Step]) -> str:
    rows = [f"| {number}. {step.name} | {step.seconds:.0f} |" for number, step in enumerate(steps, 1)]
    total = sum(step.seconds for step in steps)
    return "\n".join(["| step | seconds |", "|---|---:|", *rows, f"| **all of it** | **{total:.0f}** |", ""])


def machine() -> str:
    """Return a sentence about the machine, for the note below the table."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {processor()}, no GPU, Python {platform.python_version()}, "
        f"load before {load:.1f}"
    )


def main() -> None:
    about = machine()
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="clipcite-newcomer-") as temporary:
        folder = Path(temporary) / "clipcite"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
        own = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPCITE_", "PYTHON"))}
        fresh = {"CLIPCITE_CACHE": str(Path(temporary) / "cache"), "PIP_NO_CACHE_DIR": "1"}
        steps = list(walk(folder, commands_of(page), {**own, **fresh}))
    text = f"{table(steps)}\n{about}; from `python -m benchmarks.newcomer`.\n"
    print(f"\n{text}")
    head, _, rest = page.partition(START)
    PAGE.write_text(f"{head}{START}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
