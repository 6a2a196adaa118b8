"""A tiny real network on disk, loaded once, and a data folder with a migrated database."""

import shutil
from pathlib import Path

import pytest

from core.clip.backbone import Backbone, load_backbone
from core.store import migrate
from tests.clip.tiny import make_tiny_backbone


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Shared: nothing may change it. Its name is what CLIPCITE_BACKBONE takes."""
    cache = tmp_path_factory.mktemp("tiny")
    return load_backbone(make_tiny_backbone(cache / "network"), cache=cache)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("migrated") / "clipcite.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def data(tmp_path: Path, migrated: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(migrated, folder / "clipcite.db")
    return folder
