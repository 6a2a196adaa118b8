"""The grid of settings: the factors on a recipe, and a method with the settings that a log names."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.methods import tuned
from benchmarks.methods.clip_lora import ClipLora
from benchmarks.methods.common import task as given
from benchmarks.methods.coop import CoOp
from benchmarks.methods.fair import WithOffsets, ensemble_with_stock
from benchmarks.methods.ft_probe import FtProbe, ft_probe
from benchmarks.methods.linear_probe import LinearProbe, linear_probe
from benchmarks.methods.prolip import ProLip
from benchmarks.methods.tuned import GRIDS, TUNED, Factors
from core.clip.config import AdaptConfig

NAMES = ("grey square", "blue thing", "red thing", "green thing")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (FtProbe(10, 32, 1e-4, 1e-3), FtProbe(20, 32, 3e-4, 3e-3)),
        (ClipLora(steps_per_shot=2, learning_rate=1e-2), ClipLora(steps_per_shot=4, learning_rate=3e-2)),
        (CoOp(epochs=50, learning_rate=0.2), CoOp(epochs=100, learning_rate=0.2 * 3)),
        (ProLip(steps=300, learning_rate=1e-3), ProLip(steps=600, learning_rate=3e-3)),
        (
            AdaptConfig(epochs=10, learning_rate=1e-4, classifier_learning_rate=1e-3),
            AdaptConfig(epochs=20, learning_rate=3e-4, classifier_learning_rate=3e-3),
        ),
    ],
)
def test_factors_change_rates_and_length_alone(settings: Any, expected: Any) -> None:
    found = Factors(3.0, 2).scale(settings)
    assert {name: pytest.approx(value) for name, value in vars(expected).items()} == vars(found)
    assert Factors(1.0, 1).scale(settings) == settings


def log_with(path: Path, method: str, training: str, setting: str) -> Path:
    chosen = {"method": method, "training": training, "setting": setting, "chosen": True}
    others = [chosen | {"setting": "other", "chosen": False}, chosen | {"method": "other"}]
    path.write_text(json.dumps([*others, chosen]), encoding="utf-8")
    return path


def test_a_network_has_the_chosen_settings_also_with_offsets(
    task: given.Task, shown: given.Tests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuned, "FT_PROBE_RECIPES", {"*": FtProbe(1, 8, 1e-3, 1e-2)})
    log = log_with(tmp_path / "log.json", "ft_probe", "rate × 3, length × 2", "α 0.5")
    monkeypatch.setattr(tuned, "LOG", log)
    found = TUNED["ft_probe-tuned"](task)
    expected = ensemble_with_stock(ft_probe(task, FtProbe(2, 8, 3e-3, 3e-2))["FT-Probe"])
    assert list(found) == ["FT-Probe, tuned", "FT-Probe, tuned, balanced"]
    for predictor, other in zip(found.values(), (expected, WithOffsets(expected)), strict=True):
        torch.testing.assert_close(predictor.similarities(shown, NAMES), other.similarities(shown, NAMES))


def test_the_probe_has_the_chosen_c(
    task: given.Task, shown: given.Tests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuned, "LOG", log_with(tmp_path / "log.json", "linear_probe", "C", "C 0.1"))
    (found,) = TUNED["linear_probe-tuned"](task).values()
    expected = linear_probe(task, LinearProbe(0.1))["Linear probe"]
    torch.testing.assert_close(found.similarities(shown, NAMES), expected.similarities(shown, NAMES))


def test_the_recipe_is_the_first_trial(task: given.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    for grid in (GRIDS[name] for name in GRIDS if name != "linear_probe"):
        assert next(iter(grid)) == "rate × 1, length × 1"
    assert next(iter(GRIDS["linear_probe"]["C"](task))) == "C 31.6"
    monkeypatch.setattr(tuned, "FT_PROBE_RECIPES", {"*": FtProbe(1, 8, 1e-3, 1e-2)})
    assert next(iter(next(iter(GRIDS["ft_probe"].values()))(task))) == "α 1"
