"""Write the synchronous client from the asynchronous one: `python -m tests.repository.unasync [--check]`."""

import argparse
import difflib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT = Path("clipcite/client")
RULES = {
    r"\basync (?=def|with|for)": "",
    r"\bawait ": "",
    r"\bAsync(?=[A-Z])": "",  # This project's classes, httpx.AsyncClient, AsyncIterator.
    r"\b_async\b": "_sync",
    r"\bAwaitable, ": "",
    r"\bAwaitable\[None\]": "None",
    r"\b__a(?=enter__|exit__)": "__",
    r"\ba(?=(close|closing|read|iter_bytes|next)\b)": "",
    r"\bimport anyio\.to_thread\n": "",
    r"\banyio\.to_thread\.run_sync\(([\w.]+)(, )?": r"\1(",
    r"\banyio(?=\.sleep\b|\n)": "time",
    # An asynchronous generator does not allow `yield from`.
    r"\bfor (\w+) in (.+):\n +yield \1\n": r"yield from \2\n",
    r", for asyncio and trio\b": "",
    r"\bshared by tasks\b": "shared by threads",
}
"""Patterns of asynchronous code with their replacements, in order of application."""


def synchronous(text: str, name: str) -> str:
    """Return the formatted file `name` of `_sync` for the text of the same file of `_async`."""
    for pattern, replacement in RULES.items():
        text = re.sub(pattern, replacement, text)
    origin, target = CLIENT / "_async" / name, CLIENT / "_sync" / name
    text = f"# Generated from {origin} by `python -m tests.repository.unasync`. Do not edit.\n{text}"
    for command in (["check", "--fix", "--quiet", "--select=I"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, f"--stdin-filename={target}", "-"]
        done = subprocess.run(
            ruff, cwd=ROOT, input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True
        )
        text = done.stdout
    return text


def stale_files(client: Path = ROOT / CLIENT) -> dict[Path, tuple[str, str]]:
    """Return the current and the expected text of each outdated file of `_sync`."""
    source, target = (
        {path.name: path.read_text(encoding="utf-8") for path in (client / half).glob("[!_]*.py")}
        for half in ("_async", "_sync")
    )
    expected = {name: synchronous(text, name) for name, text in source.items()}
    prompts = {name: (target.get(name, ""), expected.get(name, "")) for name in sorted({*expected, *target})}
    return {client / "_sync" / name: (old, new) for name, (old, new) in prompts.items() if old != new}


def main(arguments: Sequence[str] | None = None, client: Path = ROOT / CLIENT) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Print the differences and change no file.")
    check = parser.parse_args(arguments).check
    stale = stale_files(client)
    for path, (old, new) in stale.items():
        if check:
            names = (f"{path} as it is", f"{path} as generated")
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), *names))
        elif new:
            path.write_text(new, encoding="utf-8")
        else:
            path.unlink()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
