"""Two real networks: a tiny ViT with random weights, and the starter, assembled once a session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.clip.models.backbone import Backbone, load_backbone
from tests.core.clip.tiny import make_tiny_backbone

REPOSITORY = Path(__file__).parents[3]
CLOTHING = (REPOSITORY / ".." / "shared" / "data" / "clothing").resolve()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_backbone(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Backbone:
    """Shared: nothing may change it."""
    return load_backbone(f"local-dir:{tiny_folder}", cache=tiny_folder.parent)


@pytest.fixture(scope="session")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    """(cache, what each process ended with): the starter, assembled by two processes at once."""
    cache = tmp_path_factory.mktemp("cache")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "core.clip.models.starter", str(cache)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # two times two threads on two cores crawl
        )
        for _ in range(2)
    ]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        results.append((process.returncode, out, err))
    return cache, results


@pytest.fixture(scope="session")
def starter(assembled: tuple[Path, list[tuple[int, str, str]]]) -> Backbone:
    """The starter at its recipe's size. Shared: nothing may change it."""
    return load_backbone("starter", cache=assembled[0], image_size=160)


@pytest.fixture(scope="session")
def clothing() -> Path:
    if not CLOTHING.is_dir():
        pytest.skip(f"the clothing images are not at {CLOTHING}")
    return CLOTHING
