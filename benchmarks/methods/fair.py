"""Rivals with the product's own additions, and with the searches of their papers.

FT-Probe gets the weight ensemble (WiSE-FT, arXiv 2109.01903) and the class offsets. Tip-Adapter-F and the
linear probe search their settings, as their papers do on validation images. Here a quarter of the shots is
held out for the search; then the method trains on all shots. CLIP-LoRA and CoOp train as long as in their
papers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.methods.clip_lora import RECIPES as LORA_RECIPES
from benchmarks.methods.clip_lora import clip_lora
from benchmarks.methods.common.answerers import TwoTowers, stock_head
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.common.task import Method, Predictor, Task, Tests
from benchmarks.methods.coop import RECIPES as COOP_RECIPES
from benchmarks.methods.coop import coop
from benchmarks.methods.ft_probe import ImageTowerAndHead, ft_probe
from benchmarks.methods.linear_probe import LinearProbe, linear_probe
from benchmarks.methods.tip_adapter import RECIPES as TIP_RECIPES
from benchmarks.methods.tip_adapter import Cache, TipAdapter, tip_adapter
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE, class_offsets
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.models.features import image_features
from core.clip.prompts import class_indices
from core.clip.weights.ensemble import interpolate

ALPHA = 0.5
HELD_OUT = 4
"""Every fourth shot of each class is held out."""
TIP_ALPHAS, TIP_BETAS = (0.5, 1.0, 2.0, 4.0), (1.0, 3.0, 5.5, 8.0)
PROBE_C = (0.1, 1.0, 10.0, 31.6, 100.0, 1_000.0)
COOP_EPOCHS = 200
Settings = TypeVar("Settings")
Network = TwoTowers | ImageTowerAndHead


@dataclass(frozen=True)
class WithOffsets:
    """A predictor by a network, with the class offsets of the product."""

    predictor: Network
    balance: float = NEW_CLASS_BALANCE

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        task = self.predictor.task
        pixels = torch.stack([task.backbone.preprocess(image) for image in task.images])
        shots = image_features(self.predictor.model, pixels).cpu()
        head = self.predictor.head(class_names).cpu()
        classes = class_indices(class_names, task.class_names)
        offsets = class_offsets(shots, torch.tensor(task.labels), head, classes, self.balance)
        return self.predictor.similarities(tests, class_names) - offsets


def ft_probe_ensemble(task: Task) -> dict[str, Predictor]:
    """Return FT-Probe in the middle between its training and its start, without and with class offsets."""
    (trained,) = ft_probe(task).values()
    middle = ensemble_with_stock(trained)
    return {"FT-Probe + WiSE-FT": middle, "FT-Probe + WiSE-FT, balanced": WithOffsets(middle)}


def ensemble_with_stock(trained: Predictor) -> Network:
    """Return the network in the middle between the trained and the stock one, in classifier and towers."""
    assert isinstance(trained, Network)
    task = trained.task
    theta = interpolate(tower_parameters(task.backbone.model), tower_parameters(trained.model), ALPHA)
    model = with_parameters(task.backbone, theta)
    if isinstance(trained, TwoTowers):
        return TwoTowers(task, model)
    after = F.normalize(trained.classifier.detach(), dim=-1)
    classifier = torch.lerp(stock_head(task, task.class_names), after, ALPHA)
    return ImageTowerAndHead(task, model, classifier)


def tip_adapter_searched(task: Task) -> dict[str, Predictor]:
    """Return Tip-Adapter-F with α and β searched after its training, as in the authors' code."""
    start = recipe(TIP_RECIPES, task.backbone)
    grid = [start, *(replace(start, alpha=a, beta=b) for a in TIP_ALPHAS for b in TIP_BETAS)]

    def train(task: Task) -> Callable[[TipAdapter], Predictor]:
        cache = tip_adapter(task, start)["Tip-Adapter-F"]
        assert isinstance(cache, Cache)
        return lambda settings: replace(cache, settings=settings)

    return {"Tip-Adapter-F, searched": train(task)(search(task, grid, train))}


def linear_probe_searched(task: Task) -> dict[str, Predictor]:
    """Return the linear probe with C searched."""

    def train(task: Task) -> Callable[[LinearProbe], Predictor]:
        return lambda settings: linear_probe(task, settings)["Linear probe"]

    grid = [LinearProbe(), *(LinearProbe(c) for c in PROBE_C)]
    return {"Linear probe, searched": train(task)(search(task, grid, train))}


def search(
    task: Task, grid: Sequence[Settings], train: Callable[[Task], Callable[[Settings], Predictor]]
) -> Settings:
    """Return the settings with the highest accuracy on held-out shots, the first of equal ones.

    A task whose classes have fewer than HELD_OUT shots keeps the first settings.

    Args:
        train: trains on a task, and returns the predictor by settings.
    """
    parts = hold_out(task)
    if parts is None:
        return grid[0]
    rest, held = parts
    labels = torch.tensor(held.labels)
    predictor = train(rest)
    with TemporaryDirectory() as folder:
        paths = tuple(Path(folder) / f"{i}.png" for i in range(len(held.images)))
        for path, image in zip(paths, held.images, strict=True):
            image.save(path)
        tests = Tests(task.backbone, paths)
        accuracies = []
        for settings in grid:
            predicted = predictor(settings).similarities(tests, task.class_names).argmax(dim=1)
            accuracies.append((predicted == labels).float().mean())
    return grid[int(torch.stack(accuracies).argmax())]


def hold_out(task: Task) -> tuple[Task, Task] | None:
    """Split a task into training and held-out shots, or return None if a class has too few."""
    of_class = [
        [i for i, label in enumerate(task.labels) if label == c] for c in range(len(task.class_names))
    ]
    if min(map(len, of_class)) < HELD_OUT:
        return None
    held = {i for places in of_class for i in places[HELD_OUT - 1 :: HELD_OUT]}

    def part(places: list[int]) -> Task:
        return replace(
            task, images=[task.images[i] for i in places], labels=[task.labels[i] for i in places], watch=None
        )

    return part([i for i in range(len(task.labels)) if i not in held]), part(sorted(held))


def longer_lora(steps_per_shot: int, learning_rate: float, task: Task) -> dict[str, Predictor]:
    """Return CLIP-LoRA with another length and learning rate."""
    start = recipe(LORA_RECIPES, task.backbone)
    settings = replace(start, steps_per_shot=steps_per_shot, learning_rate=learning_rate)
    (trained,) = clip_lora(task, settings).values()
    return {f"CLIP-LoRA, {steps_per_shot} steps per shot, rate {learning_rate:g}": trained}


def longer_coop(task: Task) -> dict[str, Predictor]:
    """Return CoOp with the 200 epochs of its paper."""
    (trained,) = coop(task, replace(recipe(COOP_RECIPES, task.backbone), epochs=COOP_EPOCHS)).values()
    return {f"CoOp, {COOP_EPOCHS} epochs": trained}


FAIR: Mapping[str, Method] = {
    "ft_probe-ensemble": ft_probe_ensemble,
    "tip_adapter-searched": tip_adapter_searched,
    "linear_probe-searched": linear_probe_searched,
    "clip_lora-50": partial(longer_lora, 50, 1e-2),
    "clip_lora-50-slow": partial(longer_lora, 50, 1e-3),
    "clip_lora-500": partial(longer_lora, 500, 2e-4),
    "coop-200": longer_coop,
}
"""Methods by name. They are not part of `--methods all`, whose runs are stored."""
