from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.inference.classifier import Scores
from core.clip.inference.request_rule import RequestRule
from core.serving.calibrated import calibrate, holds_for, prediction_sets, ranked, stored_calibration
from core.store.db.tables import Model
from tests.core.serving import adapted

SHOTS = torch.eye(4)[:2], torch.tensor([0, 1])
KNOWN = replace(adapted.KNOWN, least_similarity=0.2)


def judged(given: Scores, coverage: float = 0.9) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sets and scores by a calibration without in-distribution scores: shots count for nothing."""
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
    in_set, _ = judged(scores([0.31, 0.30, 0.16]), coverage)
    assert in_set.tolist() == [[True] * names + [False] * (3 - names)]


def test_an_image_like_no_class_is_rejected() -> None:
    """Models without an in-distribution score are judged by the cosine."""
    for given, rejected in (
        (scores([0.25, 0.1], [0.1, 0.15]), [False, True]),
        (scores([0.25, 0.1], offsets=[0.1, 0.0]), [True]),
    ):
        assert (judged(given)[1] < KNOWN.threshold).tolist() == rejected


def test_an_image_like_none_of_the_trained_images_is_rejected() -> None:
    known = replace(KNOWN, rejection_threshold=0.95)
    given = scores([0.35, 0.2], [0.35, 0.2], [0.2, 0.35], offsets=[0.1, 0.1])
    features = torch.tensor([[0.8, 0.0, 0.6, 0.0], [0.0, 0.8, 0.6, 0.0], [0.0, 0.8, 0.6, 0.0]])

    def rejected(classes: list[int]) -> list[bool]:
        _, found = calibrate(known, given, features, SHOTS, classes, coverage=0.9)
        rejections: list[bool] = (found < known.threshold).tolist()
        return rejections

    # Rows: like class 1 and its images; like class 1 but images of class 2; like class 2 and its images.
    assert rejected([0, 1]) == [False, True, False]
    assert rejected([1, 0]) == [True, False, True]


def test_the_most_likely_classes_come_first_with_their_cosines() -> None:
    given = scores([0.22, 0.31, 0.30], offsets=[0.0, 0.05, 0.0])
    names, kinds = ["oak", "fox", "badger"], ["new", "trained", "trained"]
    (found,) = ranked(given, names, kinds, 2)
    assert [(p.class_name, p.kind) for p in found] == [("badger", "trained"), ("fox", "trained")]
    assert [p.similarity for p in found] == pytest.approx([0.30, 0.31])
    assert [p.probability for p in found] == pytest.approx(given.probabilities[0, [2, 1]].tolist())


def test_classes_are_ranked_by_score_where_probabilities_are_rounded_to_0() -> None:
    """Whatever the order of the names in the request."""
    values = {"a": 0.5, "e": 0.3, "d": 0.2, "c": 0.1, "b": 0.05}
    for names in (tuple(values), tuple(reversed(values))):
        given = scores([values[name] for name in names], scale=1000.0)
        assert (given.probabilities == 0).sum() > 1
        (found,) = ranked(given, names, ["trained"] * 5, None)
        assert [p.class_name for p in found] == list("aedcb")
        assert prediction_sets(given, torch.ones(1, 5, dtype=torch.bool), names) == [list("aedcb")]


def test_a_calibration_of_other_scores_or_another_alpha_is_not_applied() -> None:
    """Versions before the field stored none. The scores of version 2 differ for unequal classes."""
    asked: dict[str, Any] = {
        "own_prompts": False,
        "templates": None,
        "balance": NEW_CLASS_BALANCE,
        "shots": SHOTS,
    }
    uneven = torch.eye(3), torch.tensor([0, 0, 1])
    names = ["badger", "fox"], ["Fox", "badger"]
    assert holds_for(KNOWN, *names, **{**asked, "shots": uneven})
    old = replace(KNOWN, scoring_version=2)
    assert holds_for(old, *names, **asked)
    for shots in (uneven, None):
        assert not holds_for(old, *names, **{**asked, "shots": shots})
    stored = KNOWN.to_dict()
    del stored["scoring_version"]
    row = cast(Model, SimpleNamespace(metrics={"calibration": stored}))
    oldest = stored_calibration(row, 0.5)
    assert oldest == replace(KNOWN, scoring_version=1)
    assert not holds_for(oldest, *names, **asked)
    assert stored_calibration(row, 0.6) is None
    assert stored_calibration(cast(Model, SimpleNamespace(metrics={"calibration": None})), 0.5) is None
