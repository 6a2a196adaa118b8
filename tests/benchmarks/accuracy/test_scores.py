"""The compact scores against the plain computation on the full score matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.accuracy.measures import differences, means, resampled
from benchmarks.accuracy.scores import BestScores


def drawn(seed: int, images: int = 60, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, images)
    scores = generator.normal(0, 0.1, (images, classes)).astype(np.float32)
    scores[np.arange(images), truth] += 0.1
    return scores, truth


def open_world(scores: np.ndarray, truth: np.ndarray, trained: list[int], new: list[int]) -> dict[str, float]:
    """Compute the measures pair by pair from their definitions (arXiv 2505.05180)."""
    looks_trained = scores[:, trained].max(axis=1) - scores[:, new].max(axis=1)
    right = [
        max(trained if label in trained else new, key=lambda c: row[c]) == label
        for row, label in zip(scores, truth, strict=True)
    ]
    of_trained = [i for i, label in enumerate(truth) if label in trained]
    of_new = [i for i, label in enumerate(truth) if label in new]
    pairs = [(i, j, looks_trained[i] > looks_trained[j]) for i in of_trained for j in of_new]
    return {
        "AUROC": sum(above for _, _, above in pairs) / len(pairs),
        "Opt-a": sum(above and right[i] for i, _, above in pairs) / len(pairs),
        "Opt-g": sum(above and right[j] for _, j, above in pairs) / len(pairs),
        "OwAUC": sum(above and right[i] and right[j] for i, j, above in pairs) / len(pairs),
    }


@given(st.integers(0, 10_000))
@settings(max_examples=50)
def test_compact_scores_decide_like_the_full_matrix(seed: int) -> None:
    scores, truth = drawn(seed)
    trained, new = [1, 4, 5], [0, 2, 3, 6]
    answers = BestScores.from_scores(scores, truth, trained)
    for right, image, label in zip(answers.correct_within_kind(), scores, truth, strict=True):
        kind = trained if label in trained else new
        assert right == (max(kind, key=lambda c: image[c]) == label)
    assert np.array_equal(answers.correct_among_all(), scores.argmax(axis=1) == truth)
    assert answers.open_world() == pytest.approx(open_world(scores, truth, trained, new))
    found = means([answers])
    for b, n, hm in (("B", "N", "HM"), ("mixed B", "mixed N", "mixed HM")):
        both = found[b] + found[n]
        assert found[hm] == pytest.approx(2 * found[b] * found[n] / both if both else 0)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_requests_for_one_kind_have_their_own_scores(seed: int) -> None:
    scores, truth = drawn(seed)
    of_trained, _ = drawn(seed + 1, classes=3)
    of_new, _ = drawn(seed + 2, classes=4)
    trained, new = [1, 4, 5], [0, 2, 3, 6]
    own = BestScores.from_scores(scores, truth, trained, of_trained, of_new)
    for right, label, a, b in zip(own.correct_within_kind(), truth, of_trained, of_new, strict=True):
        predicted = trained[a.argmax()] if label in trained else new[b.argmax()]
        assert right == (predicted == label)
    assert np.array_equal(own.correct_among_all(), scores.argmax(axis=1) == truth)


def test_intervals_are_paired() -> None:
    """A method compared with itself has no difference under any resampling.

    Against a method that is better on every second image, the interval lies above 0 and contains the
    difference.
    """
    scores, truth = drawn(3, images=200)
    better = scores.copy()
    better[::2] = -1
    better[np.arange(0, 200, 2), truth[::2]] = 1
    one, other = (
        BestScores.from_scores(scores, truth, [0, 1, 2]),
        BestScores.from_scores(better, truth, [0, 1, 2]),
    )
    values = {m: means([other])[m] - means([one])[m] for m in ("B", "N", "HM", "all")}
    draws_other, draws_one = resampled([other], [0], seed=1), resampled([one], [0], seed=1)
    found = differences({m: draws_other[m] for m in values}, {m: draws_one[m] for m in values}, values)
    for difference in found.values():
        assert 0 < difference.low < difference.value < difference.high
    same = differences(draws_one, draws_one, dict.fromkeys(draws_one, 0.0))
    assert all((d.low, d.value, d.high) == (0, 0, 0) for d in same.values())


def test_a_method_without_new_classes_has_no_accuracy_on_them() -> None:
    scores, truth = drawn(4)
    scores[:, 3:] = -np.inf
    values = means([BestScores.from_scores(scores, truth, [0, 1, 2])])
    assert np.isnan(values["N"])
    assert np.isnan(values["HM"])
    assert values["mixed N"] == values["mixed HM"] == 0
    assert values["mixed B"] == values["B"] > 0.3
