"""Rivals with the product's additions: the middle of the weights, the offsets, and searches without tests."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from benchmarks.methods import fair
from benchmarks.methods.clip_lora import RECIPES as LORA_RECIPES
from benchmarks.methods.clip_lora import ClipLora
from benchmarks.methods.common import task as given
from benchmarks.methods.common.answerers import stock_head
from benchmarks.methods.common.recipes import recipe
from benchmarks.methods.coop import RECIPES as COOP_RECIPES
from benchmarks.methods.coop import CoOp
from benchmarks.methods.fair import (
    FAIR,
    TIP_ALPHAS,
    TIP_BETAS,
    WithOffsets,
    ft_probe_ensemble,
    hold_out,
    search,
)
from benchmarks.methods.ft_probe import FtProbe, ImageTowerAndHead, ft_probe
from benchmarks.methods.linear_probe import LinearProbe, linear_probe
from benchmarks.methods.tip_adapter import Cache, TipAdapter, tip_adapter
from core.clip.inference.class_offsets import class_offsets
from core.clip.models.backbone import tower_parameters

NAMES = ("grey square", "blue thing", "red thing", "green thing")


def test_the_ensemble_is_halfway_in_tower_and_classifier(
    task: given.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair, "ft_probe", lambda task: ft_probe(task, FtProbe(2, 8, 1e-3, 1e-2)))
    middle = ft_probe_ensemble(task)["FT-Probe + WiSE-FT"]
    trained = ft_probe(task, FtProbe(2, 8, 1e-3, 1e-2))["FT-Probe"]
    assert isinstance(middle, ImageTowerAndHead)
    assert isinstance(trained, ImageTowerAndHead)
    stock, after = tower_parameters(task.backbone.model), tower_parameters(trained.model)
    for name, tensor in tower_parameters(middle.model).items():
        torch.testing.assert_close(tensor, (stock[name] + after[name]) / 2)
    expected = (stock_head(task, task.class_names) + F.normalize(trained.classifier, dim=-1)) / 2
    torch.testing.assert_close(middle.classifier, expected)


def test_offsets_are_the_products(task: given.Task, shown: given.Tests) -> None:
    trained = ft_probe(task, FtProbe(2, 8, 1e-3, 1e-2))["FT-Probe"]
    assert isinstance(trained, ImageTowerAndHead)
    # The test images of this fixture are the shots.
    offsets = class_offsets(
        shown.features(trained.model), torch.tensor(task.labels), trained.head(NAMES), [-1, 2, 0, 1], 0.35
    )
    assert offsets.abs().max() > 1e-3
    plain = trained.similarities(shown, NAMES)
    torch.testing.assert_close(
        WithOffsets(trained).similarities(shown, NAMES), plain - offsets, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(WithOffsets(trained, 0).similarities(shown, NAMES), plain)


def test_a_quarter_of_each_class_is_held_out(task: given.Task) -> None:
    parts = hold_out(task)
    assert parts is not None
    rest, held = parts
    assert (held.labels, len(rest.labels)) == ([0, 1, 2], 12)  # The fourth of five shots.
    assert held.images == [task.images[i] for i in (3, 8, 13)]
    few = [i for i in range(15) if i % 5 < 3]
    assert (
        hold_out(replace(task, images=[task.images[i] for i in few], labels=[task.labels[i] for i in few]))
        is None
    )


def test_the_search_takes_the_best_on_held_out_shots(task: given.Task) -> None:
    """A predictor that always errs loses to one that is right, wherever it stands."""
    trainings: list[int] = []

    class Fixed:
        def __init__(self, correct: bool) -> None:
            self.correct = correct

        def similarities(self, tests: given.Tests, class_names: object) -> torch.Tensor:
            right = F.one_hot(torch.arange(3), 3).float()  # One held-out shot per class.
            return right if self.correct else right.roll(1, dims=1)

    def train(task: given.Task) -> Callable[[str], given.Predictor]:
        trainings.append(len(task.images))
        return lambda settings: Fixed(settings.startswith("good"))

    assert search(task, ["bad", "good", "good too"], train) == "good"
    assert trainings == [12]


def test_the_searched_cache_is_trained_on_all_shots(
    task: given.Task, shown: given.Tests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe's cache votes against the class of an image, so the search must leave it."""
    start = TipAdapter(alpha=-100.0, epochs=0, views=2)
    monkeypatch.setattr(fair, "recipe", lambda *_: start)
    found = FAIR["tip_adapter-searched"](task)["Tip-Adapter-F, searched"]
    plain = tip_adapter(task, start)["Tip-Adapter-F"]
    assert isinstance(found, Cache)
    assert isinstance(plain, Cache)
    torch.testing.assert_close(found.keys, plain.keys)
    assert found.settings in {replace(start, alpha=a, beta=b) for a in TIP_ALPHAS for b in TIP_BETAS}
    labels = torch.tensor(task.labels)
    correct = [
        (cache.similarities(shown, task.class_names).argmax(dim=1) == labels).float().mean()
        for cache in (plain, found)
    ]
    assert correct[0] < correct[1]


def test_one_shot_keeps_the_settings(task: given.Task, shown: given.Tests) -> None:
    few = replace(task, images=[task.images[i] for i in (0, 5, 10)], labels=[0, 1, 2])
    searched = FAIR["linear_probe-searched"](few)["Linear probe, searched"]
    plain = linear_probe(few, LinearProbe())["Linear probe"]
    torch.testing.assert_close(searched.similarities(shown, NAMES), plain.similarities(shown, NAMES))


def test_longer_trainings_differ_in_length_and_rate_only(
    task: given.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[ClipLora | CoOp] = []

    def record(_: given.Task, settings: ClipLora | CoOp) -> dict[str, None]:
        trained.append(settings)
        return {"rival": None}

    monkeypatch.setattr(fair, "clip_lora", record)
    monkeypatch.setattr(fair, "coop", record)
    names = ("clip_lora-50", "clip_lora-50-slow", "clip_lora-500", "coop-200")
    labels = [label for name in names for label in FAIR[name](task)]
    assert labels == [
        "CLIP-LoRA, 50 steps per shot, rate 0.01",
        "CLIP-LoRA, 50 steps per shot, rate 0.001",
        "CLIP-LoRA, 500 steps per shot, rate 0.0002",
        "CoOp, 200 epochs",
    ]
    lora, coop = recipe(LORA_RECIPES, task.backbone), recipe(COOP_RECIPES, task.backbone)
    assert trained == [
        replace(lora, steps_per_shot=50, learning_rate=1e-2),
        replace(lora, steps_per_shot=50, learning_rate=1e-3),
        replace(lora, steps_per_shot=500, learning_rate=2e-4),
        replace(coop, epochs=200),
    ]
