"""One running service for all tests of the client."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.service.conftest import environment
from tests.service.running import Service, serve

__all__ = ["environment"]
COLOURS = {"red": (240, 30, 20), "green": (30, 220, 40), "blue": (20, 40, 235)}


@pytest.fixture(scope="session")
def service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve(tmp_path_factory.mktemp("data"), environment) as service:
        yield service


@pytest.fixture(autouse=True)
def no_settings_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CLIPCITE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Red and green to train on, blue too to test on."""
    root = tmp_path / "colours"
    paint(root, "train/red", 4)
    paint(root, "train/green", 4)
    for name in COLOURS:
        paint(root, f"test/{name}", 2)
    return root


def paint(root: Path, place: str, count: int, ending: str = "png") -> list[Path]:
    """Plain pictures in a folder that is called after a colour, or grey ones."""
    made = []
    colour = COLOURS.get(Path(place).name, (120, 120, 120))
    (root / place).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = root / place / f"{number}.{ending}"
        Image.new("RGB", (48, 40), (*colour[:2], min(255, colour[2] + 3 * number))).save(path)
        made.append(path)
    return made
