"""A reader's environment: a service, images, the commands and a model."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipcite import Client, Job
from tests.clipcite.painted import paint
from tests.service.running import Service, serve

CLASSES = ("gear", "nut", "washer")
SAMPLES = re.compile(r"(\.venv/bin/)?clipcite samples parts images\n")
"""Command of the sample images. The tests have plain images in their place."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def reader_service(data: Path, environment: dict[str, str]) -> Iterator[Service]:
    """Run a service as readers do: without keys, and with a token."""
    with serve(data, {**environment, "CLIPCITE_REQUIRE_TOKEN": "true"}) as service:
        yield service


@pytest.fixture(scope="session")
def example(reader_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return the job called $JOB by the pages; its model is $MODEL."""
    folder = tmp_path_factory.mktemp("example")
    _images(folder)
    with Client(reader_service.url, reader_service.key) as client:
        return client.adapt(folder / "images", config={"epochs": 2}, name="example").wait(timeout=600)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Create a reader's working folder with images and the programs, in `bin` and in `.venv`."""
    for name in ("clipcite", ".venv/bin/clipcite"):
        _program(tmp_path / ("bin" if "/" not in name else "") / name, '-m clipcite "$@"')
    for name in ("bin/python3", ".venv/bin/python"):
        _program(tmp_path / name, '"$@"')
    (tmp_path / ".venv" / "bin" / "activate").touch()
    _images(tmp_path)
    return tmp_path


def _program(path: Path, arguments: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n')
    path.chmod(0o755)


def _images(folder: Path) -> None:
    for number, name in enumerate((*CLASSES, "screw")):
        for split, count, first in (("train", 3, 0), ("test", 2, 10)):
            if (split, name) != ("train", "screw"):
                for path in paint(folder, f"images/{split}/{name}", count, first=first):
                    path.rename(path.with_name(f"{number} {split} {path.name}"))
    for name in ("red", "green"):
        paint(folder, f"more/{name}", 2)
    for name, image in zip(("a.jpg", "b.jpg"), paint(folder, "new", 2, first=20), strict=True):
        shutil.copy2(image, folder / name)
    rows = [f"more/{name}/{i}.png,{name}" for name in ("red", "green") for i in range(2)]
    (folder / "labels.csv").write_text("\n".join(["file_name,label", *rows]))
    _export_labels(folder / "labelled")
    with zipfile.ZipFile(folder / "shots.zip", "w") as archive:
        for path in (folder / "images").rglob("*.png"):
            archive.write(path, path.relative_to(folder / "images"))


def _export_labels(folder: Path) -> None:
    """Write a JSON export of Label Studio 1.23 with its uploaded images."""
    tasks: list[dict[str, object]] = []
    for name in ("red", "green"):
        for path in paint(folder, f"upload/1/{name}", 3):
            uploaded = path.rename(folder / "upload" / "1" / f"0a1b2c3d-{name}{path.name}")
            chosen = {
                "type": "choices",
                "value": {"choices": [name]},
                "from_name": "choice",
                "to_name": "image",
            }
            annotation = {"was_cancelled": False, "result": [chosen]}
            image = f"/data/upload/1/{uploaded.name}"
            tasks.append({"id": len(tasks) + 1, "data": {"image": image}, "annotations": [annotation]})
        (folder / "upload" / "1" / name).rmdir()
    (folder / "project-1.json").write_text(json.dumps(tasks))


class Shell:
    """Runner of a page's commands in the working folder, against the running service."""

    def __init__(self, folder: Path, url: str, data: Path, job: Job | None = None) -> None:
        """Make a shell. With a `job`, the folder has images already, in the place of the samples.

        Args:
            data: data folder of the service, where the commands find the token.
        """
        self.folder = folder
        self.url = url
        token = (data / "token").read_text().strip()
        self.variables = {
            "API": url,
            "AUTH": f"Authorization: Bearer {token}",
            "CLIPCITE_URL": url,
            "CLIPCITE_DATA": str(data),
        }
        self._has_images = job is not None
        if job is not None:
            self.variables |= {"JOB": job.id, "MODEL": job.model_id or ""}

    def __call__(self, script: str) -> str:
        """Return the output. Every command must succeed."""
        script = script.replace("http://127.0.0.1:8000", self.url)
        if self._has_images:
            script = SAMPLES.sub("", script)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={
                "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
                "PYTHONPATH": os.pathsep.join(sys.path),
                "LC_ALL": "C.UTF-8",
                **self.variables,
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout


@pytest.fixture
def shell(workplace: Path, reader_service: Service, data: Path, example: Job) -> Shell:
    return Shell(workplace, reader_service.url, data, example)
