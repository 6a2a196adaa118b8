"""The choice of settings: held-out training images, the score, and the log."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy import tuning
from benchmarks.accuracy.harness import task_of
from benchmarks.accuracy.tuning import held_out_trial, score
from benchmarks.data.load import load
from benchmarks.methods.tuned import TRIALS
from core.clip.models.backbone import Backbone
from tests.benchmarks.accuracy.test_paper import COLOURS, folder_of


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuning, "SHOTS", 2)
    return folder_of(tmp_path / "colours", list(COLOURS), train=5)


def test_held_out_images_are_training_images_that_are_not_shots(colours: Path, backbone: Backbone) -> None:
    data = load(colours)
    trial = held_out_trial(data)
    shots, held_out = trial.data.train, trial.data.test
    assert {*shots, *held_out} == set(data.train)
    assert len(shots) == 2 * len(trial.trained)
    assert len(held_out) == len(data.train) - len(shots)
    assert {shot.label for shot in shots} == set(trial.trained)
    assert len(task_of(trial, backbone).images) == len(shots)


def test_a_class_without_a_further_image_is_refused(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "SHOTS", 5)
    with pytest.raises(SystemExit, match=r"colours: a trained class has no image besides its 5 shots\."):
        held_out_trial(load(colours))


def test_the_score_is_the_mean_of_both_harmonic_means() -> None:
    one, two = {"B": 0.9, "HM": 0.8, "mixed HM": 0.4}, {"B": 0.9, "HM": 0.6, "mixed HM": 0.6}
    assert score([one, two]) == pytest.approx(0.6)
    assert score([{"B": 0.9, "mixed HM": 0.0}]) == 0.9


@pytest.mark.slow
def test_the_log_has_every_trial_and_the_best_one(colours: Path, backbone: Backbone, tmp_path: Path) -> None:
    command = ["--data", str(colours), "--backbone", backbone.name, "--out", str(tmp_path / "out")]
    tuning.main([*command, "--methods", "linear_probe", "prolip"])
    (path,) = (tmp_path / "out").glob("tuning-*.json")
    log = json.loads(path.read_text(encoding="utf-8"))
    for method in ("linear_probe", "prolip"):
        trials = [trial for trial in log if trial["method"] == method]
        assert len({(trial["training"], trial["setting"]) for trial in trials}) == TRIALS
        scores = [trial["score"] for trial in trials]
        assert [trial["chosen"] for trial in trials].index(True) == scores.index(max(scores))
        assert sum(trial["chosen"] for trial in trials) == 1
