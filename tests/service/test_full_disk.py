"""A disk that fills during uploads and publications: nothing partial is stored, and work resumes with free
space.
"""

import io
import os
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.disk import fill, small_disk
from tests.service.running import classified, colours, serve, submit, succeeded, training, wait_for

pytestmark = pytest.mark.slow


@pytest.mark.mounts
def test_a_full_disk(environment: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(tmp_path / "disk", megabytes=32) as disk:
        (disk / "spool").mkdir()
        given = {"TMPDIR": str(disk / "spool"), "CLIPCITE_BLOB_URL": (disk / "blobs").as_uri()}
        with serve(data, {**environment, **given}) as service, service.http as http:
            # Uploads above 64 kB are spooled to disk while they are read.
            for side, leave in ((200, 100_000), (100, 20_000)):
                ballast = fill(disk, leave=leave)
                answer = upload(http, side)
                assert answer.status_code == 507, answer.text
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "storage_full"
                assert "ree some space" in answer.json()["detail"]
                assert files(disk) == ["ballast", "blobs/installation.json"]
                assert [file for file in (data / "tmp").glob("*/*") if file.name != ".lock"] == []
                assert http.get("/jobs").json()["data"] == []
            ballast.unlink()
            first = upload(http, 200)
            assert first.status_code == 202, first.text

            job_id = submit(http, colours(), epochs=100, batch_size=8)
            training(http, job_id)
            ballast = fill(disk)
            wait_for(lambda: "can't be stored yet, storage_full" in service.log())
            wait_for(lambda: waits_to_be_published(http, job_id))
            ballast.unlink()
            job = succeeded(http, job_id)
            classified(http, "red", "blue", model=job["model_id"])
            assert not [name for name in files(disk) if name.endswith(".part")]


def waits_to_be_published(http: httpx.Client, job_id: str) -> bool:
    job = http.get(f"/jobs/{job_id}").json()
    assert job["status"] == "running", job
    return bool(job["progress"]["stage"] == "publishing")


def upload(http: httpx.Client, side: int) -> httpx.Response:
    images = [("images", (f"{i}.bmp", encoded(side, i))) for i in range(8)]
    return http.post("/adapt", files=images, data={"labels": ["a", "b"] * 4, "config": '{"epochs": 1}'})


def encoded(side: int, seed: int) -> bytes:
    """Encode at three bytes per pixel."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (seed, 40, 200)).save(buffer, "BMP")
    return buffer.getvalue()


def files(disk: Path) -> list[str]:
    return sorted(
        str((Path(folder) / name).relative_to(disk)) for folder, _, names in os.walk(disk) for name in names
    )
