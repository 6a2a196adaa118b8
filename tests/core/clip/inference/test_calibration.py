import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clip.inference.calibration import (
    MAX_SCORES,
    MIN_HELD_OUT,
    FittedCalibration,
    calibration_error,
    fit_calibration,
    fit_temperature,
    softmax,
    thinned,
)


def drawn(n: int, classes: int = 4, temperature: float = 1.0, seed: int = 0):  # type: ignore[no-untyped-def]
    """Draw logits, and truths from softmax(logits / temperature), which calibrates them by construction."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (n, classes))
    chances = softmax(logits / temperature).cumsum(axis=1)
    truth = (generator.random((n, 1)) > chances).sum(axis=1)
    return logits, np.minimum(truth, classes - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_recovered(temperature: float) -> None:
    logits, truth = drawn(4000, temperature=temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.08)
    calibrated = calibration_error(softmax(logits / temperature), truth)
    assert calibrated < 0.03
    assert calibration_error(softmax(3 * logits / temperature), truth) > calibrated + 0.05


@pytest.mark.parametrize("seed", range(3))
def test_images_that_are_all_right_do_not_prove_certainty(seed: int) -> None:
    """The lowest temperature would explain them best, and make every other prediction certain."""
    logits, truth = drawn(20_000, seed=seed)
    right = np.flatnonzero(logits.argmax(axis=1) == truth)[:30]
    temperature = fit_temperature(logits[right], truth[right])
    assert 0.4 < temperature < 1.5
    certain = calibration_error(softmax(logits / 0.1), truth)
    assert calibration_error(softmax(logits / temperature), truth) < min(0.1, certain / 2)
    assert fit_temperature(logits[right, :1], np.zeros(30, dtype=np.int64)) > 0  # A single class is certain.


def test_the_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.92, 0.08], [0.94, 0.06], [0.3, 0.7], [0.36, 0.64]])
    # The last two share a bin, in which half are right.
    error = calibration_error(probabilities, np.array([0, 1, 1, 1]))
    assert error == pytest.approx((0.36 + 0.3 + 2 * 0.43) / 4)


def test_a_probability_of_one_has_its_bin() -> None:
    assert calibration_error(np.array([[1.0, 0.0], [0.98, 0.02]]), np.array([0, 1])) == pytest.approx(0.49)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("held_out", [60, 500])
def test_prediction_sets_reach_the_requested_coverage(coverage: float, held_out: int) -> None:
    covered, asked = 0, 0
    for seed in range(20):
        logits, truth = drawn(held_out + 500, temperature=1.7, seed=seed)
        fitted = fit_calibration(logits[:held_out], truth[:held_out], logit_scale=1.0, alpha=0.5)
        chances = softmax(logits[held_out:] / fitted.temperature)[np.arange(500), truth[held_out:]]
        covered += int((chances >= fitted.conformal_threshold(coverage)).sum())
        asked += 500
    assert coverage - 0.02 < covered / asked < coverage + 0.05


def test_scores_in_units_of_the_cosine_are_scaled_first() -> None:
    logits, truth = drawn(60)
    cosines = fit_calibration(logits / 40, truth, logit_scale=40.0, alpha=0.5)
    plain = fit_calibration(logits, truth, logit_scale=1.0, alpha=0.5)
    assert cosines.temperature == plain.temperature
    assert cosines.nonconformity == pytest.approx(plain.nonconformity, abs=2e-5)


def test_few_images_limit_the_coverage() -> None:
    logits, truth = drawn(MIN_HELD_OUT)
    fitted = fit_calibration(logits, truth, logit_scale=1.0, alpha=0.5)
    # Of 30 images and a new one, 28 are 90%, and 30 are 95%.
    assert fitted.conformal_threshold(0.9) == 1 - fitted.nonconformity[27] > 0
    assert fitted.conformal_threshold(0.95) == 1 - fitted.nonconformity[29] > 0
    assert fitted.conformal_threshold(0.99) == 0  # Every class is in the set.
    assert fit_calibration(logits[1:], truth[1:], logit_scale=1.0, alpha=0.5) is None


@given(st.integers(1, 999), st.integers(0, 2**32 - 1))
def test_stored_scores_shrink_no_quantile(count: int, seed: int) -> None:
    """Each stored score is the largest of its group, so prediction sets only grow."""
    ascending = np.sort(np.random.default_rng(seed).random(count))
    kept = thinned(ascending)
    assert len(kept) == min(count, MAX_SCORES)
    starts = np.flatnonzero(np.isin(ascending, kept))
    assert starts[-1] == count - 1
    sizes = np.diff([-1, *starts])
    assert sizes.max() - sizes.min() <= 1
    for rank in (0.5, 0.8, 0.9, 0.95):
        exact = ascending[min(count, int(np.ceil(count * rank))) - 1]
        assert kept[int(np.ceil(len(kept) * rank)) - 1] >= exact


def test_a_calibration_survives_json_and_stays_small() -> None:
    logits, truth = drawn(3000)
    fitted = fit_calibration(logits, truth, logit_scale=1.0, alpha=0.5)
    assert len(fitted.nonconformity) == MAX_SCORES
    assert FittedCalibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
