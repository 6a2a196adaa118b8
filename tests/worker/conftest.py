"""Misbehaving stand-ins for the trainer's program."""

from collections.abc import Callable
from pathlib import Path

import pytest

StandIn = Callable[[str], None]
HEAD = """
import json, os, sys, time

def say(**message):
    print(json.dumps(message), flush=True)

def job():
    "The folder, as the real one gets it."
    return sys.argv[1] if cold else json.loads(sys.stdin.readline())["folder"]

cold = len(sys.argv) > 1
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """Return a function that makes `python -m worker.trainer` run the passed Python."""
    # A replacement of `worker/trainer/__main__.py` in a folder that is searched first.
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def write(script: str) -> None:
        (tmp_path / "worker" / "trainer.py").write_text(HEAD + script)

    return write
