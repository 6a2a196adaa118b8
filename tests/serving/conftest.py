"""A tiny real network on disk, loaded once, and a data folder with a migrated database."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path, migrated: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(migrated, folder / "clipcite.db")
    return folder
