"""A worker killed at each step of a publication and of the end of the evaluation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_step_leaves_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    """Published models are complete, jobs and models agree, and the sweep removes the rest."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.worker.killed_publisher", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    assert left["exit"] == 0  # The last process completed.
    assert left["kills"] >= 20
    assert 1 <= left["succeeded"] < left["published"] < left["kills"] / 2
    assert left["published"] == left["with_model"]
    assert left["swept"] == left["stored"] - left["published"] > 5
    assert left["left"] == left["models"]
