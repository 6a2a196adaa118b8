"""The pages' code, run as pasted against one running service."""

import os
import secrets
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clipcite import Client
from clipcite.__main__ import app
from core.clip.models.backbone import Backbone
from tests.docs.conftest import Shell
from tests.docs.pages import PAGES, ROOT, blocks, name_of, session

COMMAND_LINE = ROOT / "docs" / "reference" / "command-line.md"
README = ROOT / "README.md"
VERSIONS = ROOT / "docs" / "how-to" / "versions.md"
SESSIONS = [page for page in PAGES if session(page) and page not in {COMMAND_LINE, README, VERSIONS}]
SHOWS_AN_ERROR = {"rest-api.md"}
PROGRAMS = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS, ids=name_of)
def test_a_session(page: Path, shell: Shell) -> None:
    """The other two pages need their own models; test_aliases.py and test_wheel.py run them."""
    said = shell(session(page))
    assert ("about:blank" in said) == (page.name in SHOWS_AN_ERROR), said


@pytest.mark.slow
def test_the_command_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's commands run in order, in this process, on a job that may be deleted."""
    monkeypatch.chdir(shell.folder)
    for name, value in shell.variables.items():
        monkeypatch.setenv(name, value)
    with Client() as client:
        job = client.adapt("images", config={"epochs": 1}).wait(timeout=600).id
    monkeypatch.setenv("JOB", job)
    [block] = [block for block in blocks(COMMAND_LINE) if block.language == "bash"]
    ours = f"animals-{secrets.token_hex(4)}"  # A fresh name, whose versions begin with 1.
    for line in block.lines:
        words = [os.path.expandvars(word) for word in shlex.split(line, comments=True)]
        words = [word.replace("animals", ours) for word in words]
        assert words[0] == "clipcite"
        done = CliRunner().invoke(app, words[1:])
        ended = words[1:3] == ["jobs", "cancel"]  # The finished job cannot be cancelled, which is an error.
        assert done.exit_code == (5 if ended else 0), (line, done.output, done.exception)
    with Client() as client:
        for status in ("running", "queued"):
            for job in client.jobs.list(status):
                client.jobs.cancel(job.id)


@pytest.mark.slow
@pytest.mark.parametrize("page", PROGRAMS, ids=name_of)
def test_programs_in_python(
    page: Path, shell: Shell, backbone: Backbone, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The programs run in this process, which has torch loaded."""
    monkeypatch.chdir(shell.folder)
    for name in ("CLIPCITE_URL", "CLIPCITE_DATA"):
        monkeypatch.setenv(name, shell.variables[name])
    for block in blocks(page):
        if block.language == "python":
            program = block.text.replace("http://127.0.0.1:8000", shell.url)
            program = program.replace('backbone="starter"', f"backbone={backbone.name!r}")
            exec(compile(program, name_of(page), "exec"), {"__name__": "__main__"})
            assert capsys.readouterr().out
