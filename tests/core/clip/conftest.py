"""Two real backbones: a tiny ViT with random weights, and the starter."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.clip.models.backbone import Backbone, load_backbone
from tests.conftest import Assembled
from tests.core.clip.tiny import make_tiny_backbone


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
def starter(assembled: Assembled) -> Backbone:
    """Return the starter at its recipe's image size, shared and read-only."""
    return load_backbone("starter", cache=assembled[0], image_size=160)
