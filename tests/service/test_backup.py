"""Backup of a working service, loss of the whole installation, and restoration."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.running import Hold, classified, colours, serve, submit, succeeded, training


def clipcite(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clipcite", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_everything_is_lost_and_restored(environment: dict[str, str], tmp_path: Path) -> None:
    data, backup, other = tmp_path / "data", tmp_path / "backup", tmp_path / "other"
    hold = Hold(tmp_path / "hold")

    def results(http: httpx.Client) -> Any:
        return classified(http, "red", "green", "blue", model=done["model_id"])["results"]

    with serve(data, {**environment, **hold.environment}) as service, service.http as http:
        done = succeeded(http, submit(http, colours(shots=3), epochs=2))
        before = results(http)
        hold.at(1)
        running = submit(http, colours(shots=3), epochs=5)
        training(http, running)
        queued = submit(http, colours(shots=3), epochs=2)
        made = clipcite("backup", backup, "--data", data, "--json")
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["rows"]["jobs"] == 3
        service.kill()
    shutil.rmtree(data)
    hold.release()

    checked = clipcite("verify", backup)
    assert checked.returncode == 0, checked.stderr
    restored = clipcite("restore", backup, "--data", other, "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["requeued"] == [running]
    with serve(other, environment) as service, service.http as http:
        assert results(http) == before
        for job_id in (running, queued):
            succeeded(http, job_id)
        assert http.get(f"/jobs/{done['id']}").json() == done
    verified = clipcite("verify", "--data", other, "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["unowned"] == []
    refused = clipcite("restore", backup, "--data", other)
    assert refused.returncode == 1
    assert "already has jobs" in refused.stderr
