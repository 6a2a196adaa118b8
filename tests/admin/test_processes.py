"""`clipcite api`, `worker` and `dispatcher` become the processes that they start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from admin.processes import API, WORKER, with_defaults
from core.store.db import migrate
from tests.service.running import wait_for
from worker.trainer.process import trainer_environment


def clipcite(*arguments: str, cwd: Path, **more: str) -> "subprocess.Popen[str]":
    variables = {k: v for k, v in os.environ.items() if not k.startswith("CLIPCITE_")} | more
    command = [sys.executable, "-m", "clipcite", *arguments, "--data", str(cwd / "data")]
    return subprocess.Popen(command, env=variables, cwd=cwd, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_process_is_the_dispatcher_itself(tmp_path: Path) -> None:
    """A signal reaches the dispatcher, whose exit status is the command's."""
    process = clipcite("dispatcher", cwd=tmp_path)
    running = psutil.Process(process.pid)
    wait_for(lambda: running.cmdline()[1:3] == ["-m", "worker.dispatcher"], seconds=600)
    assert running.environ()["CLIPCITE_DATA"] == str(tmp_path / "data")
    said = process.stderr.readline()  # By now the dispatcher has started, and finds no tables.
    assert "database_unavailable" in said
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=600)
    assert process.returncode == 0


def test_every_process_waits_by_the_same_rule() -> None:
    """A trainer that inherits any MALLOC_* doesn't apply its own settings."""
    api, worker = (with_defaults(module, {"PATH": "/bin"}) for module in (API, WORKER))
    assert api.keys() - worker.keys() == {"MALLOC_ARENA_MAX"}
    rule = {"PATH", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    assert worker.keys() == rule
    trainer = trainer_environment(worker)
    assert {name: trainer[name] for name in rule} == {name: api[name] for name in rule} == worker
    given = with_defaults(WORKER, {"OMP_WAIT_POLICY": "passive"})
    assert given["OMP_WAIT_POLICY"] == "passive"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["api", "serve"])
def test_off_loopback_the_token_or_a_key_is_needed(command: str, tmp_path: Path) -> None:
    """The error comes from this project's `api`, whatever the current folder contains."""
    for name in ("api.py", "worker.py", "core.py"):
        (tmp_path / name).write_text("raise SystemExit(0)")
    (tmp_path / "data").mkdir()
    migrate.upgrade(f"sqlite:///{tmp_path / 'data' / 'clipcite.db'}")
    open_to_all = {"CLIPCITE_REQUIRE_TOKEN": "false"}
    process = clipcite(command, "--host", "0.0.0.0", "--port", "58123", cwd=tmp_path, **open_to_all)
    try:
        _, said = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 1, said
    assert "Without a key and a token the service listens on this machine only, not on 0.0.0.0" in said
    assert "Traceback" not in said
