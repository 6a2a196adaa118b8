"""Stored features of trainings, on a tiny model and coloured images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.accuracy import encodings, harness
from benchmarks.accuracy.paper import read_trials
from benchmarks.methods.clip_cite import clip_cite
from core.clip.models.backbone import Backbone
from tests.benchmarks.accuracy.test_paper import COLOURS, folder_of


@pytest.mark.slow
def test_the_features_have_the_scores_of_the_trained_model(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings, "UNRELATED_NAMES", ("tench", "goldfish", "kite"))
    colours = folder_of(tmp_path / "colours", list(COLOURS), train=6)
    for i in range(6):
        (tmp_path / "imagenet" / "test" / f"{i:03d}").mkdir(parents=True)
        image = Image.fromarray(np.full((20, 20, 3), 40 * i, dtype=np.uint8))
        image.save(tmp_path / "imagenet" / "test" / f"{i:03d}" / "a.png")
    arguments = [
        *("--backbone", backbone.name, "--out", str(tmp_path / "out"), "--data", str(colours)),
        *("--unrelated", str(tmp_path / "imagenet"), "--shots", "6", "--first-split", "5"),
    ]
    encodings.main(arguments)
    (trial,) = read_trials(encodings.command_line().parse_args(arguments))
    store = encodings.store_of(backbone, tmp_path / "out")
    stored = store.get(trial.key("features"))
    assert stored is not None
    run = encodings.read(stored)
    assert (trial.split, trial.seed) == (5, 5)
    assert run.trained == trial.trained
    assert run.classes == [trial.trained.index(c) if c in trial.trained else -1 for c in range(4)]
    assert {len(run.unrelated_images[alpha]) for alpha in (0.0, *encodings.ALPHAS)} == {3}
    predictors = clip_cite(harness.task_of(trial, backbone))
    for label, alpha in (("CLIP-CITE", 0.5), ("CLIP-CITE, α = 1", 1.0)):
        scores = predictors[label].similarities(
            harness.tests_of(backbone, trial.data, False), run.class_names
        )
        found = run.images[alpha] @ run.texts[alpha].T
        torch.testing.assert_close(found, scores, rtol=0, atol=3e-4)  # stored in 16 bits

    encodings.main([*arguments, "--folds"])
    folds = store.get(trial.key("folds"))
    assert folds.array("closed").shape == (12, 2)
    assert folds.array("mixed").shape == (12, 4)
    assert sorted(folds.array("truth")) == [0] * 6 + [1] * 6

    def refuse(*_: object) -> None:
        raise AssertionError("A stored trial was trained again.")

    monkeypatch.setattr(encodings, "train", refuse)
    monkeypatch.setattr(encodings, "cross_validate", refuse)
    encodings.main(arguments)
    encodings.main([*arguments, "--folds"])
