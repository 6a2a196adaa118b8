"""The pages on the command line and the client say what there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from client.cli import app
from client.commands.connection import Exit
from tests.client.painted import paint
from tests.service.running import Service

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
SHELL = [
    line.partition("#")[0]
    for block in re.findall(r"```sh\n(.*?)```", COMMANDS, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", SHELL)
def test_every_command_is_one(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With these options and arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "labels.csv").write_text("")
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        assert words[0] in command.commands
        command = command.commands[words.pop(0)]
    command.make_context("clipcite", words)


def test_every_status_is_described() -> None:
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", COMMANDS, re.MULTILINE)} == {
        status.value for status in Exit
    }


def test_the_programs_run(service: Service, tmp_path: Path) -> None:
    for name in ("red fox", "badger"):
        paint(tmp_path, f"pictures/{name}", 2)
    for file in ("a.jpg", "b.jpg"):
        (tmp_path / file).write_bytes((tmp_path / "pictures/badger/0.png").read_bytes())
    first, second = re.findall(r"```python\n(.*?)```", PYTHON, re.DOTALL)
    first = first.replace("http://127.0.0.1:8000", service.url)
    for program, said in ((first, "not_measured"), (second, "succeeded")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CLIPCITE_URL": service.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
