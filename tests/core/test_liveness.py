"""The file that shows a health check that a process is working."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.liveness import FRESH_SECONDS, LivenessFile, problem_of

ROOT = Path(__file__).parents[2]


def run_check(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "core.liveness", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_touched_file_is_healthy_and_an_old_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    LivenessFile(path).touch()
    assert run_check(path).returncode == 0
    old = time.time() - FRESH_SECONDS - 10
    os.utime(path, (old, old))
    done = run_check(path)
    assert done.returncode == 1
    assert "Restart it" in done.stderr


def test_a_missing_file_names_its_setting(tmp_path: Path) -> None:
    done = run_check(tmp_path / "alive")
    assert done.returncode == 1
    assert "CLIPCITE_LIVENESS_FILE" in done.stderr


def test_frequent_touches_write_rarely(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    alive = LivenessFile(path)
    alive.touch()
    os.utime(path, (1, 1))
    alive.touch()
    assert path.stat().st_mtime == 1  # Not again within ten seconds.


def test_a_failing_touch_does_not_stop_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "no-such-folder" / "alive"
    with caplog.at_level(logging.ERROR):
        LivenessFile(path).touch()
    assert "CLIPCITE_LIVENESS_FILE" in caplog.text
    assert problem_of(path) is not None


def test_without_a_path_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    LivenessFile(None).touch()
    LivenessFile(None).keep_touching()
    assert list(tmp_path.iterdir()) == []


def test_the_check_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, core.liveness; "
        "sys.exit(sorted({'torch', 'pydantic', 'celery', 'sqlalchemy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
