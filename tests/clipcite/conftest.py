"""Shared fixtures for the client's tests, on the one running service."""

import os
from pathlib import Path

import pytest

from clipcite import Client, Job
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
def taught(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a finished job with its model, for read-only tests."""
    with Client(service.url) as client:
        images = _colours(tmp_path_factory.mktemp("taught") / "colours")
        return client.adapt(images, config={"epochs": 8}).wait(timeout=120)


def _colours(root: Path) -> Path:
    paint(root, "train/red", 4)
    paint(root, "train/green", 4)
    for name in COLOURS:
        paint(root, f"test/{name}", 2)
    return root
