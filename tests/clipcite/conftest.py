"""Shared fixtures for the client's tests, on the one running service."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clipcite import Client, Job
from clipcite.__main__ import app
from tests.clipcite.painted import COLOURS, paint
from tests.service.running import Service


@pytest.fixture(autouse=True)
def no_settings_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CLIPCITE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLIPCITE_REQUIRE_TOKEN", "false")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with red and green for training, and blue as well for testing."""
    return _colours(tmp_path / "colours")


@pytest.fixture(scope="session")
def trained(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Job:
    images = _colours(tmp_path_factory.mktemp("taught") / "colours")
    with Client(service.url) as client:
        return client.adapt(images, config={"epochs": 8}).wait(timeout=600)


@pytest.fixture
def taught(service: Service, trained: Job) -> Iterator[Job]:
    """Yield a finished job with its model. A test that changes them fails: it needs `learner`."""
    with Client(service.url) as client:
        model = client.models.get(trained.model_id or "")
        yield trained
        assert client.models.get(model.id).raw == model.raw
        assert client.jobs.get(trained.id).raw == trained.raw


@pytest.fixture
def learner(service: Service, folder: Path) -> Job:
    """Return a finished job whose model a test may teach and rename."""
    with Client(service.url) as client:
        return client.adapt(folder, config={"epochs": 8}).wait(timeout=600)


@pytest.fixture
def no_piles(service: Service) -> Iterator[None]:
    """Delete the piles: another test may have the same files."""
    yield
    with Client(service.url) as client:
        for pile in list(client.piles.list()):
            pile.delete()


def _colours(root: Path) -> Path:
    paint(root, "train/red", 4)
    paint(root, "train/green", 4)
    for name in COLOURS:
        paint(root, f"test/{name}", 2)
    return root


@pytest.fixture
def call(service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a command on the service and asserts its exit status."""
    monkeypatch.setenv("CLIPCITE_URL", service.url)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object, status: int = 0) -> Result:
        done = CliRunner().invoke(app, [str(one) for one in arguments])
        assert done.exit_code == status, (done.stdout, done.stderr, done.exception)
        return done

    return call
