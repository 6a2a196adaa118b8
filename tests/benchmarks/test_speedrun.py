"""A speed run on a tiny model and coloured images, and the rule for valid entries."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import speedrun
from core.clip.config import resolve_config
from core.clip.models.backbone import Backbone


def write_images(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, colour in {
        "blue": (30, 60, 230),
        "green": (30, 200, 40),
        "grey": (120,) * 3,
        "red": (220, 30, 30),
    }.items():
        for part, count in (("train", 2), ("test", 3)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.normal(colour, 25, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@pytest.mark.slow
def test_recipe_and_entry_take_turns_and_are_stored(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speedrun, "RESULTS", tmp_path / "speedrun.json")
    data = write_images(tmp_path / "colours")
    command = [
        "--data",
        str(data),
        "--backbone",
        backbone.name,
        "--out",
        str(tmp_path / "out"),
        "--seeds",
        "2",
    ]
    speedrun.main([*command, "--repetitions", "2"])
    rows = json.loads((tmp_path / "speedrun.json").read_text())
    assert [row["entry"] for row in rows] == ["recipe", "half"]
    for row in rows:
        assert row["job_seconds"] > 0
        assert row["training_seconds"] > 0
        assert row["images"] == 8
        assert 0 <= row["mixed HM"][0] <= 1
        assert row["command"].startswith("python -m benchmarks.speedrun")
    assert rows[0]["valid"] is True  # the recipe against itself
    printed = capsys.readouterr().out
    assert printed.index("1/2 half") < printed.index("2/2 recipe")
    speedrun.main([*command, "--repetitions", "1", "--times-only"])
    again = json.loads((tmp_path / "speedrun.json").read_text())
    assert len(again) == 2
    assert "not measured" in capsys.readouterr().out
    assert {row["valid"] for row in again} == {None}


def test_each_target_counts() -> None:
    recipe = {"B": [0.8, 0.9], "N": [0.6, 0.6], "mixed HM": [0.5, 0.5]}
    assert speedrun.is_valid({**recipe, "N": [0.596, 0.596]}, recipe)
    for target in speedrun.TARGETS:
        worse = [value - 0.006 for value in recipe[target]]
        assert not speedrun.is_valid({**recipe, target: worse}, recipe)


def test_half_goes_as_far_in_half_the_steps() -> None:
    recipe, half = resolve_config(), resolve_config(**speedrun.settings_of("half", "starter"))
    assert half.epochs * 2 == recipe.epochs
    assert half.epochs * half.learning_rate == recipe.epochs * recipe.learning_rate
    assert half.alpha == 0.5
