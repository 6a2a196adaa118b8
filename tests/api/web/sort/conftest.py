"""A small trained model, and folders to sort with it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clipcite import Client
from clipcite.types.models import Model
from tests.api.web.window import shot, write_class_folders
from tests.service.running import Service

CLASSES = {"red": 5, "green": 5, "yellow": 5}


@pytest.fixture(scope="session")
def trained(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Train a model of three colours, with images as light as in the folder.

    The test images evaluate it: the training images are so alike that they count as few photos.
    """
    shots = tmp_path_factory.mktemp("trained")
    for name, images in CLASSES.items():
        for split, first, count in (("train", 21, images), ("test", 22, 2)):
            (shots / split / name).mkdir(parents=True)
            for number in range(count):
                (shots / split / name / f"{number}.png").write_bytes(shot(name, first + 2 * number, size=40))
    with Client(service.url) as client:
        job = client.adapt(shots, name="colours of tests", config={"epochs": 1}).wait()
        return client.models.get(job.model_id)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of 42 images in 3 folders, with equal names."""
    return write_class_folders(tmp_path / "photos", {"red": 14, "blue": 14, "yellow": 14})


@pytest.fixture(autouse=True)
def no_piles(request: pytest.FixtureRequest) -> Iterator[None]:
    """Delete the piles at the end: the next test has the same photos."""
    yield
    for name in {"quick_url", "service"} & {*request.fixturenames}:
        running = request.getfixturevalue(name)
        with httpx.Client(base_url=running if isinstance(running, str) else running.url) as http:
            for pile in http.get("/piles").json()["data"]:
                http.delete(f"/piles/{pile['id']}").raise_for_status()
