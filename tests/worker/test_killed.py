"""A process killed at each step of its work on the storage, for each kind of work."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def killed(scenario: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.worker.killed", scenario, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left: dict[str, Any] = json.loads(done.stdout)
    return left


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["publish", "upload", "import", "checkpoint", "pile", "delete", "clean"])
def test_no_needed_file_is_lost_and_no_other_one_stays(scenario: str, tmp_path: Path) -> None:
    left = killed(scenario, tmp_path)
    assert left["kills"] >= 8
    assert left["stored"] > 5
    assert left["extra"] == left["left"] == []
    made = left[{"publish": "models", "import": "models", "pile": "pile_images"}.get(scenario, "jobs")]
    assert made >= 1
    if scenario in {"publish", "upload", "import"}:
        assert made < left["kills"]


@pytest.mark.slow
def test_a_killed_restoration_is_repeated(tmp_path: Path) -> None:
    assert killed("restore", tmp_path)["kills"] >= 20
