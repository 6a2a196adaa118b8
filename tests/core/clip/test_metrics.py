"""The `metrics` of a job, to nine digits: jobs and models store them, so they must not drift."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.clip.evaluation.accuracy import accuracy_interval, difference_interval, job_metrics
from core.clip.evaluation.evaluate import Evaluated
from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions
from core.clip.evaluation.verdict import judge
from core.clip.prompts import Candidates
from tests.core.clip.reports import held_out

GOLDEN = json.loads(Path(__file__).with_name("metrics.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {
    "trained classes only": {},
    "new classes too": {"new": 20},
    "new classes only": {"images": 0, "new": 10},
    "too few for a temperature": {"images": 12, "new": 6},
    "a small gain": {"stock": 0.7, "adapted": 0.75, "new": 7},
    "a loss": {"stock": 0.9, "adapted": 0.4},
}


def metrics(**given: Any) -> Any:
    held = held_out(**given)
    return stored(held, judge(held, 40.0).verdict, trained_images=9)


def stored(*given: Any, **named: Any) -> Any:
    return Evaluated(job_metrics(*given, source="test", **named)).stored_metrics()


@pytest.mark.parametrize("case", CASES)
def test_the_metrics_are_the_stored_ones(case: str) -> None:
    assert rounded(metrics(**CASES[case])) == rounded(GOLDEN[case])


def rounded(found: Any) -> Any:
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 9))


# Classes 0 and 1 are trained, 2 and 3 are new. One image per row; the true class in the comment.
STOCK = np.array(
    [
        [0.5, 0.4, 0.1, 0.0],  # 0: correct, also among all classes
        [0.4, 0.3, 0.6, 0.0],  # 0: correct among trained classes, predicted as a new class among all
        [0.5, 0.4, 0.0, 0.0],  # 1: wrong
        [0.0, 0.0, 0.5, 0.4],  # 2: correct
        [0.0, 0.1, 0.5, 0.4],  # 3: wrong
    ]
)
ADAPTED = np.array(
    [
        [0.9, 0.4, 0.1, 0.0],  # 0: correct
        [0.9, 0.3, 0.6, 0.0],  # 0: now correct among all classes too
        [0.5, 0.9, 0.0, 0.0],  # 1: now correct
        [0.8, 0.0, 0.5, 0.4],  # 2: correct among new classes, predicted as a trained class among all
        [0.0, 0.1, 0.4, 0.5],  # 3: now correct
    ]
)
TRUTH = np.array([0, 0, 1, 2, 3])


def by_hand(rows: list[int]) -> HeldOutPredictions:
    stock, adapted = (
        ClassScores(scores[rows][:, :2], scores[rows], scores[rows][:, 2:]) for scores in (STOCK, ADAPTED)
    )
    candidates = Candidates.of("abcd", "ab", ["{}"])
    return HeldOutPredictions(candidates, np.array(rows), TRUTH[rows], stock, adapted)


def accuracies(of: dict[str, Any]) -> tuple[float, float]:
    return of["stock"], of["adapted"]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 1, 4, 0, 2]])
def test_on_a_hand_made_example(order: list[int]) -> None:
    made = stored(by_hand(order), trained_images=9)
    assert made["measured_on"] == {"source": "test", "images": 5, "trained_images": 9, "fold_models": 0}
    assert set(made) == {"measured_on", "trained_classes", "new_classes", "all_classes", "verdict"}
    assert accuracies(made["trained_classes"]) == pytest.approx((2 / 3, 1))
    assert made["trained_classes"]["difference"]["value"] == pytest.approx(1 / 3)
    assert accuracies(made["new_classes"]) == pytest.approx((1 / 2, 1))
    everything = made["all_classes"]
    assert accuracies(everything["trained"]) == pytest.approx((1 / 3, 1))
    assert accuracies(everything["all"]) == pytest.approx((2 / 5, 4 / 5))
    assert everything["all"]["difference"]["value"] == pytest.approx(0.4)
    interval = accuracy_interval(np.array([True, False]))
    assert everything["new"] == {
        "stock": 0.5,
        "adapted": 0.5,
        "interval": [interval.low, interval.high],
        "difference": difference_interval(np.array([False, True]), np.array([True, False])).model_dump(),
    }


def test_without_images_of_a_half() -> None:
    trained_only = stored(by_hand([0, 1, 2]), trained_images=4)
    assert trained_only["new_classes"] is trained_only["all_classes"]["new"] is None
    assert trained_only["all_classes"]["all"] == trained_only["all_classes"]["trained"]
    # Without images of new classes, these are no candidates.
    assert trained_only["all_classes"]["all"] == trained_only["trained_classes"]
    new_only = stored(by_hand([3, 4]), trained_images=4)
    assert new_only["trained_classes"] is new_only["all_classes"]["trained"] is None


@pytest.mark.parametrize("held", [None, HeldOutPredictions.none(held_out().candidates)])
def test_without_a_measurement(held: HeldOutPredictions | None) -> None:
    assert stored(held, trained_images=12) == {
        "measured_on": {"source": "none", "images": 0, "trained_images": 12, "fold_models": 0},
        "trained_classes": None,
        "new_classes": None,
        "all_classes": None,
        "verdict": "not_evaluated",
    }
