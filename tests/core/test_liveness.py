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


def test_a_touched_file_is_healthy_and_an_old_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    LivenessFile(path).touch()
    assert problem_of(path) is None
    old = time.time() - FRESH_SECONDS - 10
    os.utime(path, (old, old))
    assert "Restart it" in str(problem_of(path))


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
    assert "Make the folder writable" in caplog.text
    assert problem_of(path) is not None


def test_the_command_imports_no_heavy_library() -> None:
    """Containers run it twice a minute."""
    code = (
        "import sys; from clipcite.cli.main import app; app(['liveness'], standalone_mode=False); "
        "sys.exit(sorted({'torch', 'celery', 'sqlalchemy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in {0, 1}, done.stderr
    assert "[" not in done.stderr
