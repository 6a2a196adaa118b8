"""The pages' commands: each runs as pasted (test_sessions), or names existing commands and options."""

import re
import runpy
import shlex
import sys
import tomllib
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import typer.main

from clipcite.__main__ import app
from core.settings import Settings
from tests.docs.pages import PAGES, ROOT, Block, blocks, name_of

NO_COMMANDS = {"bash", "python", "json", "ini", "nginx", "haproxy", "text", "toml", "yaml"}
"""Languages without commands. Other tests run `bash` and `python`."""
FINISHED = "git checkout "
"""First line of the commands of a finished experiment, which run at that commit alone."""
OTHERS = {"docker", "sh", "curl"}
"""Programs of the deployment pages."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands(page: Path) -> list[str]:
    found: list[Block] = [
        block
        for block in blocks(page)
        if block.language not in NO_COMMANDS and not block.text.startswith(FINISHED)
    ]
    starts = re.compile(r"(\$ )?(\.venv/bin/)?(clipcite|python3?|pip|make|curl|docker|sh|export|source) ")
    return [line.removeprefix("$ ") for block in found for line in block.lines if starts.match(line)]


# Another test has imported the module.
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (
        "images",
        "clothing",
        "dataset",
        "more",
        "new",
        "snapshot",
        "stick/backbone",
        "stick/ViT-B-16--openai",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "new-sorted").mkdir()
    (tmp_path / "new-sorted" / "clipcite-sort-20261129-101500-000000.jsonl").touch()
    for line in commands(page):
        monkeypatch.chdir(tmp_path)
        program, *words = shlex.split(line, comments=True)
        kind = program.rpartition("/")[2]
        if kind == "clipcite":
            _is_of_the_command_line(words)
        elif kind in {"python", "python3"}:
            monkeypatch.chdir(ROOT)
            _is_a_program(words, monkeypatch)
        elif kind == "pip":
            _has_these_extras(line)
        elif kind == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        elif words[:2] in (["compose", "run"], ["compose", "exec"]):
            _, *inside = dropwhile(lambda word: word.startswith("-"), words[2:])
            # The entrypoint of the image is `clipcite`, which only `run` uses.
            assert words[1] == "run" or inside.pop(0) == "clipcite", line
            _is_of_the_command_line(inside)
        elif kind == "export":
            names = {"PYTHONPATH", *(f"CLIPCITE_{name.upper()}" for name in Settings.model_fields)}
            assert words[0].partition("=")[0] in names, line
        else:
            assert kind in OTHERS, line


def _has_these_extras(line: str) -> None:
    extras = re.findall(r"\[([\w,]+)\]", line)
    assert set(",".join(extras).split(",")) - {""} <= set(PROJECT["optional-dependencies"]), line


def _is_of_the_command_line(words: list[str]) -> None:
    """Assert that the command has these options and arguments."""
    command: Any = typer.main.get_command(app)
    if words == ["--install-completion"]:
        return
    while hasattr(command, "get_command"):
        name = words.pop(0)
        command = command.get_command(command.context_class(command), name)
        assert command is not None, name
    command.make_context("clipcite", words)


def _is_a_program(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that the program exists and its help lists these options. A run would take minutes or hours."""
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file(), words
        return
    if words[1] in {"pip", "venv"}:
        _has_these_extras(" ".join(words))
        return
    if words[1] == "pytest":
        assert (ROOT / words[2]).exists(), words
        return
    module, options = words[1], [word.partition("=")[0] for word in words[2:] if word.startswith("--")]
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    if options:
        monkeypatch.setattr(sys, "argv", [module, "--help"])
        said: list[str] = []
        monkeypatch.setattr(sys.stdout, "write", said.append)
        with pytest.raises(SystemExit):
            runpy.run_module(module, run_name="__main__")
        monkeypatch.undo()
        missing = [option for option in options if option not in "".join(said)]
        assert missing == [], words
