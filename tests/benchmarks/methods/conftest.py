"""Two kinds of model (open_clip's ViT, and one built like the starter) and a task that they can learn."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.methods.common import task as given
from core.clip.data.transforms import to_image
from core.clip.models.backbone import Backbone, load_backbone
from tests.benchmarks.methods.hugging import make_hugging_backbone

COLOURS = {"red thing": (200, 40, 40), "green thing": (40, 200, 40), "blue thing": (40, 40, 200)}


@pytest.fixture(scope="session")
def hugging(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Return the second kind of model, shared and read-only."""
    cache = tmp_path_factory.mktemp("hugging")
    return load_backbone(make_hugging_backbone(cache / "network"), cache=cache)


@pytest.fixture(scope="session", params=["vit", "hugging"])
def either(request: pytest.FixtureRequest, backbone: Backbone, hugging: Backbone) -> Backbone:
    return backbone if request.param == "vit" else hugging


@pytest.fixture(scope="session")
def make_task() -> Callable[[Backbone], given.Task]:
    """Return a factory of tasks with five noisy images per colour; the class names are the colours."""

    @cache
    def make(backbone: Backbone) -> given.Task:
        noise = np.random.default_rng(0)
        images, labels = [], []
        for label, colour in enumerate(COLOURS.values()):
            for _ in range(5):
                pixels = np.array(colour) + noise.integers(-40, 40, (40, 48, 3))
                images.append(torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).permute(2, 0, 1))
                labels.append(label)
        return given.Task(backbone, images, labels, tuple(COLOURS))

    return make


@pytest.fixture
def task(either: Backbone, make_task: Callable[[Backbone], given.Task]) -> given.Task:
    return replace(make_task(either))


@pytest.fixture
def shown(task: given.Task, tmp_path: Path) -> given.Tests:
    """Return the task's own images as test images."""
    paths = tuple(tmp_path / f"{i}.png" for i in range(len(task.tensors)))
    for path, tensor in zip(paths, task.tensors, strict=True):
        to_image(tensor).save(path)
    return given.Tests(task.backbone, paths)
