from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from api.serving.calibrated import holds_for, prediction_sets, ranked, stored_calibration
from clipcite.types.classify import NEW_CLASS_BALANCE
from core.clip.inference.classifier import Scores
from core.clip.inference.request_rule import SCORING_VERSION, RequestRule
from core.store.db.tables import Model
from tests.api.serving.adapted import KNOWN


def scores(*rows: list[float], offsets: list[float] | None = None, scale: float = 20.0) -> Scores:
    similarities = torch.tensor(rows)
    subtracted = torch.tensor(offsets or [0.0] * similarities.shape[1])
    less = similarities - subtracted
    rule = RequestRule("closed", torch.eye(len(subtracted)), subtracted)
    return Scores((scale * less).softmax(dim=-1), less, similarities, rule)


@pytest.mark.parametrize(("coverage", "names"), [(0.1, 1), (0.9, 2), (0.999, 3)])
def test_more_coverage_gives_larger_sets(coverage: float, names: int) -> None:
    (chosen,) = prediction_sets(KNOWN, scores([0.31, 0.30, 0.16]), "abc", coverage)
    assert chosen == list("abc")[:names]


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
        everything = replace(KNOWN, nonconformity=(1.0,))
        assert prediction_sets(everything, given, names, 0.5) == [list("aedcb")]


def test_a_calibration_of_other_scores_or_another_alpha_is_not_applied() -> None:
    """Versions before the field stored none."""
    asked: dict[str, Any] = {"own_prompts": False, "templates": None, "balance": NEW_CLASS_BALANCE}
    names = ["badger", "fox"], ["Fox", "badger"]
    assert holds_for(KNOWN, *names, **asked)
    assert not holds_for(replace(KNOWN, scoring_version=SCORING_VERSION - 1), *names, **asked)
    stored = KNOWN.to_dict()
    del stored["scoring_version"]
    row = cast(Model, SimpleNamespace(metrics={"calibration": stored}))
    oldest = stored_calibration(row, 0.5)
    assert oldest == replace(KNOWN, scoring_version=1)
    assert not holds_for(oldest, *names, **asked)
    assert stored_calibration(row, 0.6) is None
    assert stored_calibration(cast(Model, SimpleNamespace(metrics={"calibration": None})), 0.5) is None
