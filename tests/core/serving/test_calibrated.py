from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.inference.classifier import Scores
from core.clip.inference.request_rule import RequestRule
from core.serving.calibrated import CalibratedScores, calibrate, calibration_for, ranked, stored_calibration
from core.serving.names import ResolvedNames
from core.store.db.tables import Model
from tests.core.serving import adapted

SHOTS = torch.eye(4)[:2], torch.tensor([0, 1])
KNOWN = replace(adapted.KNOWN, least_similarity=0.2)


def judged(given: Scores, coverage: float = 0.9) -> CalibratedScores:
    """Return the scores by a calibration without in-distribution scores: shots count for nothing."""
    rows, names = given.similarities.shape
    return calibrate(KNOWN, given, torch.full((rows, 4), 0.5), SHOTS, range(names), coverage=coverage)


def scores(*rows: list[float], offsets: list[float] | None = None, scale: float = 20.0) -> Scores:
    similarities = torch.tensor(rows)
    subtracted = torch.tensor(offsets or [0.0] * similarities.shape[1])
    less = similarities - subtracted
    rule = RequestRule("closed", torch.eye(len(subtracted)), subtracted)
    return Scores((scale * less).softmax(dim=-1), less, similarities, rule)


@pytest.mark.parametrize(("coverage", "names"), [(0.1, 1), (0.9, 2), (0.999, 3)])
def test_more_coverage_gives_larger_sets(coverage: float, names: int) -> None:
    found = judged(scores([0.31, 0.30, 0.16]), coverage)
    assert found.in_set.tolist() == [[True] * names + [False] * (3 - names)]


def test_an_image_like_no_class_is_rejected() -> None:
    """Models without an in-distribution score are judged by the cosine."""
    assert judged(scores([0.25, 0.1], [0.1, 0.15])).rejected.tolist() == [False, True]
    assert judged(scores([0.25, 0.1], offsets=[0.1, 0.0])).rejected.tolist() == [True]


def test_an_image_like_none_of_the_trained_images_is_rejected() -> None:
    known = replace(KNOWN, rejection_threshold=0.95)
    given = scores([0.35, 0.2], [0.35, 0.2], [0.2, 0.35], offsets=[0.1, 0.1])
    features = torch.tensor([[0.8, 0.0, 0.6, 0.0], [0.0, 0.8, 0.6, 0.0], [0.0, 0.8, 0.6, 0.0]])

    def rejected(classes: list[int]) -> list[bool]:
        found = calibrate(known, given, features, SHOTS, classes, coverage=0.9)
        return found.rejected.tolist()

    # Rows: like class 1 and its images; like class 1 but images of class 2; like class 2 and its images.
    assert rejected([0, 1]) == [False, True, False]
    assert rejected([1, 0]) == [True, False, True]


def test_the_most_likely_classes_come_first_with_their_cosines() -> None:
    given = scores([0.22, 0.31, 0.30], offsets=[0.0, 0.05, 0.0])
    names, kinds = ["oak", "fox", "badger"], {"oak": "new", "fox": "trained", "badger": "trained"}
    (found,) = ranked(given, ResolvedNames(names, (-1, 0, 1), ()), kinds, 2)
    assert [(p.class_name, p.kind) for p in found] == [("badger", "trained"), ("fox", "trained")]
    assert [p.similarity for p in found] == pytest.approx([0.30, 0.31])
    assert [p.probability for p in found] == pytest.approx(given.probabilities[0, [2, 1]].tolist())


def test_classes_are_ranked_by_score_where_probabilities_are_rounded_to_0() -> None:
    """Whatever the order of the names in the request."""
    values = {"a": 0.5, "e": 0.3, "d": 0.2, "c": 0.1, "b": 0.05}
    for names in (tuple(values), tuple(reversed(values))):
        given = scores([values[name] for name in names], scale=1000.0)
        assert (given.probabilities == 0).sum() > 1
        kinds = dict.fromkeys(names, "trained")
        (found,) = ranked(given, ResolvedNames(names, tuple(range(5)), ()), kinds, None)
        assert [p.class_name for p in found] == list("aedcb")
        certain = calibrate(
            replace(KNOWN, nonconformity=(1.0,)),
            given,
            torch.full((1, 4), 0.5),
            SHOTS,
            range(5),
            coverage=0.4,
        )
        assert certain.prediction_sets(names) == [list("aedcb")]


ROW = SimpleNamespace(metrics={"calibration": KNOWN.to_dict()}, alpha=0.5, classes=["Fox", "badger"])
ASKED: dict[str, Any] = {
    "names": ["badger", "fox"],
    "own_prompts": False,
    "alpha": None,
    "templates": None,
    "balance": NEW_CLASS_BALANCE,
    "shots": SHOTS,
}


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["badger"]},
        {"names": ["badger", "fox", "oak"]},
        {"own_prompts": True},
        {"alpha": 0.6},
        {"templates": ["a {}."]},
        {"balance": 0.0},
    ],
)
def test_a_calibration_holds_for_its_own_settings(change: dict[str, Any]) -> None:
    row = cast(Model, ROW)
    assert calibration_for(row, **ASKED) == KNOWN
    assert calibration_for(row, **{**ASKED, "alpha": 0.5}) == KNOWN
    assert calibration_for(row, **{**ASKED, **change}) is None


def test_a_calibration_of_other_scores_is_not_applied() -> None:
    """Versions before the field stored none. The scores of version 2 differ for unequal classes."""
    stored = {**KNOWN.to_dict()}
    row = cast(Model, SimpleNamespace(**{**vars(ROW), "metrics": {"calibration": stored}}))
    stored["scoring_version"] = 2
    assert calibration_for(row, **ASKED) == replace(KNOWN, scoring_version=2)
    assert calibration_for(row, **{**ASKED, "shots": (torch.eye(3), torch.tensor([0, 0, 1]))}) is None
    assert calibration_for(row, **{**ASKED, "shots": None}) is None
    del stored["scoring_version"]
    assert calibration_for(row, **ASKED) is None
    assert stored_calibration(row, None) == replace(KNOWN, scoring_version=1)
    assert stored_calibration(row, 0.6) is None


@pytest.mark.parametrize("metrics", [None, {}, {"calibration": None}])
def test_models_without_a_calibration(metrics: dict[str, Any] | None) -> None:
    row = cast(Model, SimpleNamespace(metrics=metrics, alpha=0.5, classes=["fox", "badger"]))
    assert calibration_for(row, **ASKED) is None
    assert calibration_for(None, **ASKED) is None
