"""A tiny real backbone on disk, loaded once, and a data folder with a migrated database."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.clip.models.backbone import Backbone
from tests.api.serving.world import World
from tests.lent import lent


@pytest.fixture(autouse=True, scope="module")
def lent_parts() -> Iterator[None]:
    with lent():
        yield


@pytest.fixture
def data(tmp_path: Path, migrated: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(migrated, folder / "clipcite.db")
    return folder


@pytest.fixture
def world(backbone: Backbone, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(backbone, data, monkeypatch)
    yield world
    world.close()
