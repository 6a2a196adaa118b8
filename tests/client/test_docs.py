"""The pages on the command line and the client say what there is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
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
    words = shlex.split(line)[1:]
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    command.make_context("clipcite", words, parent=context)


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
            env={"PYTHONPATH": str(ROOT), "CLIPCITE_URL": service.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
