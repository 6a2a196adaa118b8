"""Two real backbones: a tiny ViT with random weights, and the starter, assembled once per session."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.clip.models.backbone import Backbone, load_backbone
from tests.core.clip.tiny import make_tiny_backbone

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads cost more than they gain in a model this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_backbone(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Backbone:
    """Return the tiny backbone, shared and read-only."""
    return load_backbone(f"local-dir:{tiny_folder}", cache=tiny_folder.parent)


@pytest.fixture(scope="session")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    """Assemble the starter in two processes at once. Return the cache folder and each process's result."""
    cache = tmp_path_factory.mktemp("cache")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "core.clip.models.starter", str(cache)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Two threads in each of two processes are slow on two cores.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(2)
    ]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=1800)
        results.append((process.returncode, out, err))
    return cache, results


@pytest.fixture(scope="session")
def starter(assembled: tuple[Path, list[tuple[int, str, str]]]) -> Backbone:
    """Return the starter at its recipe's image size, shared and read-only."""
    return load_backbone("starter", cache=assembled[0], image_size=160)
