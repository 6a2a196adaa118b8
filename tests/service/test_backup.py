"""Backup of a working service, loss of the whole installation, and restoration."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.service.running import Hold, colours, serve, submit, training, wait_for_job


def clipcite(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clipcite", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 60)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_everything_is_lost_and_restored(environment: dict[str, str], tmp_path: Path) -> None:
    data, backup, other = tmp_path / "data", tmp_path / "backup", tmp_path / "other"
    hold = Hold(tmp_path / "hold")

    def classify(http: Any, model: str) -> list[Any]:
        answer = http.post(
            "/classify",
            files=[("images", ("a.png", image()))],
            data={"model": model, "class_names": ["red", "green", "blue"]},
        )
        assert answer.status_code == 200, answer.text
        results: list[Any] = answer.json()["results"]
        return results

    with serve(data, {**environment, **hold.environment}) as service, service.http as http:
        done = wait_for_job(http, submit(http, colours(shots=3), epochs=2))
        assert done["status"] == "succeeded", done
        before = classify(http, done["model_id"])
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
        assert classify(http, done["model_id"]) == before
        for job_id in (running, queued):
            job = wait_for_job(http, job_id)
            assert (job["status"], job["attempts"]) == ("succeeded", 1), job
        assert http.get(f"/jobs/{done['id']}").json() == done
    verified = clipcite("verify", "--data", other, "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["unowned"] == []
    refused = clipcite("restore", backup, "--data", other)
    assert refused.returncode == 1
    assert "already has jobs" in refused.stderr
