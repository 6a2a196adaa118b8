"""Time from `git clone` to a model that is better and recognises a new class, step by step.

    python -m benchmarks.newcomer [--readme]

Everything is fresh: a clone of this repository in a temporary folder, the virtual environment, caches and
data. Packages come from the machine's configured indexes, without pip's cache. The commands are those of
docs/tutorials/terminal.md, and the table is written into that page, between its markers. With `--readme`,
they are those of the README, and the table is only printed.
"""

import argparse
import contextlib
import os
import platform
import re
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
README = ROOT / "README.md"
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


def commands_of_readme(readme: str) -> list[tuple[str, str]]:
    """Return the README's commands up to the first classification, each with itself as its name."""
    quickstart, session = re.findall(r"^```(?:sh|bash)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[:2]
    lines = [line.partition(" #")[0].strip() for line in (quickstart + session).splitlines()]
    left_out = ("git clone", "make test", "source ")  # The walk clones itself, and names the environment.
    steps = [line for line in lines if not line.startswith(left_out)]
    steps = [line.replace("clipcite serve --open", "clipcite serve") for line in steps]
    return [(f"`{line.partition(' --classes')[0]}`", _in_environment(line)) for line in steps]


def _in_environment(line: str) -> str:
    return f".venv/bin/{line}\n" if line.startswith("clipcite ") else f"{line}\n"


def walk(folder: Path, steps: Sequence[tuple[str, str]], environment: dict[str, str]) -> Iterator[Step]:
    """Clone the repository, and run the steps. Exit with an error if one fails, or its answer is wrong."""
    yield _timed("Clone", f"git clone --quiet {ROOT} {folder}\n", folder.parent, environment)
    with contextlib.ExitStack() as stack:
        for name, commands in steps:
            if commands.startswith(SERVE):
                print(f"\n== {name}\n{commands}", flush=True)
                started = time.monotonic()
                stack.enter_context(_served(folder, commands, environment))
                yield Step(name, commands, time.monotonic() - started)
            else:
                yield _timed(name, commands, folder, environment)


def _timed(name: str, commands: str, folder: Path, environment: dict[str, str]) -> Step:
    print(f"\n== {name}\n{commands}", flush=True)
    started = time.monotonic()
    run = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        print(line, end="", flush=True)
        said += line
    if run.wait():
        sys.exit(f"{name} failed with status {run.returncode}.")
    if problem := problem_of(commands, said):
        sys.exit(f"{name}: {problem}")
    return Step(name, commands, time.monotonic() - started)


def problem_of(commands: str, said: str) -> str | None:
    """Return why the output of a training or classification is no success, or None."""
    if "make demo" in commands or ("adapt" in commands and "--wait" in commands):
        return None if re.search(r"\bBetter\.", said) else "the verdict isn't better."
    if "classify" in commands:
        best = re.search(r"^\S+\.jpg\s+(\w+)", said, re.MULTILINE)
        return None if best and best[1] == "screw" else "the new class isn't recognised."
    return None


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
    names = [step.name if number == 0 else f"{number}. {step.name}" for number, step in enumerate(steps)]
    rows = [f"| {name} | {step.seconds:.0f} |" for name, step in zip(names, steps, strict=True)]
    total = sum(step.seconds for step in steps)
    return "\n".join(["| step | seconds |", "|---|---:|", *rows, f"| **all of it** | **{total:.0f}** |", ""])


def machine() -> str:
    """Return a sentence about the machine, for the note below the table."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {processor()}, no GPU, Python {platform.python_version()}, "
        f"load before {load:.1f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--readme", action="store_true", help="run the README's commands; print the table only"
    )
    readme = parser.parse_args(arguments).readme
    about = machine()
    page = PAGE.read_text(encoding="utf-8")
    commands = commands_of_readme(README.read_text(encoding="utf-8")) if readme else commands_of(page)
    with tempfile.TemporaryDirectory(prefix="clipcite-newcomer-") as temporary:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPCITE_", "PYTHON"))}
        fresh = {
            "CLIPCITE_CACHE": str(Path(temporary) / "cache"),
            "CLIPCITE_DATA": str(Path(temporary) / "data"),
            "PIP_NO_CACHE_DIR": "1",
        }
        steps = list(walk(Path(temporary) / "clipcite", commands, {**own, **fresh}))
    command = f"python -m benchmarks.newcomer{' --readme' if readme else ''}"
    text = f"{table(steps)}\n{about}; from `{command}`.\n"
    print(f"\n{text}")
    if not readme:
        head, _, rest = page.partition(START)
        PAGE.write_text(f"{head}{START}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
