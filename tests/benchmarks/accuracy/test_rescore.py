"""Stored features and the comparison of rules on them, on a tiny model and coloured images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.accuracy import encodings, harness, rescore, rules
from benchmarks.accuracy.paper import read_trials
from benchmarks.accuracy.rules import Rule, Support
from benchmarks.methods.clip_cite import clip_cite
from core.clip.models.backbone import Backbone
from tests.benchmarks.accuracy.test_paper import COLOURS, folder_of

COMMAND = ["--shots", "2", "--first-split", "5", "--splits", "2"]


@pytest.fixture
def arguments(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(encodings, "UNRELATED_NAMES", ("tench", "goldfish", "kite"))
    monkeypatch.setattr(rescore, "COUNTS", (1, 2))
    monkeypatch.setattr(rescore, "SCORES", {**rescore.SCORES, "closed": ("B", "2 shots")})
    colours = folder_of(tmp_path / "colours", list(COLOURS))
    others = folder_of(tmp_path / "others", ["blue", "green", "red"])
    for i in range(6):
        (tmp_path / "imagenet" / "test" / f"{i:03d}").mkdir(parents=True)
        image = Image.fromarray(np.full((20, 20, 3), 40 * i, dtype=np.uint8))
        image.save(tmp_path / "imagenet" / "test" / f"{i:03d}" / "a.png")
    return [
        *("--backbone", backbone.name, "--out", str(tmp_path / "out"), "--data", str(colours), str(others)),
        *("--unrelated", str(tmp_path / "imagenet"), *COMMAND),
    ]


@pytest.mark.slow
def test_rules_are_compared_without_a_training(
    arguments: list[str], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings.main(arguments)
    few = [*arguments[: arguments.index("--unrelated")], *COMMAND, "--splits", "1"]
    encodings.main([*few, "--setting", "fsl", "--shot-counts", "1", "2"])
    stored = sorted((tmp_path / "out" / "encodings").iterdir())
    assert len(stored) == 2 * 4  # of each set: two splits, and two numbers of shots

    (trial, *_) = read_trials(encodings.command_line().parse_args(arguments))
    run = encodings.read(encodings.path_of(trial, backbone, tmp_path / "out"))
    assert (trial.split, trial.seed) == (5, 5)
    assert run.trained == trial.trained
    assert {len(run.unrelated_images[alpha]) for alpha in encodings.ALPHAS} == {3}
    task = harness.task_of(trial, backbone)
    predictors = clip_cite(task)
    for label, rule in (("CLIP-CITE", rules.PAPER), ("CLIP-CITE, α = 1", Rule(1.0))):
        similarities = predictors[label].similarities(harness.tests_of(backbone, trial.data), run.class_names)
        support = Support.of(run.shots, run.shot_labels)
        found = rules.scores(rule, run.images, run.texts, support, run.classes)
        torch.testing.assert_close(found, similarities, rtol=0, atol=3e-4)  # stored in 16 bits

    def refuse(*_: object) -> None:
        raise AssertionError("A rule was trained.")

    monkeypatch.setattr(encodings, "train", refuse)
    encodings.main(arguments)  # all trials are stored
    rescore.main([*arguments, "--few-shot-seeds", "1"])
    (path,) = (tmp_path / "out").glob("rules-*.json")
    tables = json.loads(path.read_text(encoding="utf-8"))
    assert [table["title"].split(" requests")[0] for table in tables[::3]] == ["Closed", "Mixed", "Foreign"]
    closed, mixed, foreign = tables[0], tables[3], tables[6]
    assert closed["columns"][1:] == ["B", "1 shots", "2 shots", "score"]
    assert mixed["columns"][1:-1] == ["mixed B", "mixed N", "mixed HM", "all", "one new", "mixed retention"]
    assert foreign["columns"][1:-1] == ["N", "retention"]
    today = next(row for row in mixed["rows"] if row[0] == "today")
    expected: dict[str, list[float]] = {}
    for trial in read_trials(encodings.command_line().parse_args(arguments)):
        one = encodings.read(encodings.path_of(trial, backbone, tmp_path / "out"))
        support = Support.of(one.shots, one.shot_labels)
        scores = rules.scores(rules.today(), one.images, one.texts, support, one.classes)
        share = float((scores.argmax(dim=1) == one.truth).float().mean())
        expected.setdefault(trial.data.name, []).append(share)
    assert today[4] == f"{np.mean([np.mean(shares) for shares in expected.values()]):.3f}"


def test_outcomes_by_hand() -> None:
    """Accuracy leaves out the images that are not asked, in every resample."""
    outcomes = np.array([1, 0, -1, 1], dtype=np.int8)
    assert rescore.means({"B": [outcomes]}) == {"B": pytest.approx(2 / 3)}
    weights = np.array([[1.0, 1, 5, 1], [2, 0, 1, 0]])
    assert rescore.per_run({"B": [outcomes]}, lambda n: weights)["B"].tolist() == [pytest.approx([2 / 3, 1])]
    pair = {"mixed B": [outcomes], "mixed N": [1 - np.abs(outcomes)]}
    assert rescore.means(pair)["mixed HM"] == pytest.approx(2 * (2 / 3) * 0.25 / (2 / 3 + 0.25))
