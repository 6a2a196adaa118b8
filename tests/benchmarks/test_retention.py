"""The rank correlation and the table of the retention benchmark."""

from typing import Any

import numpy as np
import pytest

from benchmarks.retention import ALPHAS, spearman, table


def test_the_rank_correlation_by_hand() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spearman(a, a**3) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    # 1 − 6 Σ d² / (n (n² − 1)) with d = (1, −1, 0, 1, −1)
    assert spearman(a, np.array([2.0, 1.0, 3.0, 5.0, 4.0])) == pytest.approx(1 - 6 * 4 / (5 * 24))
    # Ties get mean ranks: (1.5, 1.5, 3).
    assert spearman(np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(np.sqrt(3) / 2)
    assert np.isnan(spearman(a, np.ones(5)))


def record(true: list[float], good: list[float], bad: list[float]) -> dict[str, Any]:
    points = zip(ALPHAS, true, good, bad, strict=True)
    return {"points": [{"alpha": a, "true": t, "good": g, "bad": b} for a, t, g, b in points]}


def test_a_probe_must_also_tell_models_apart_at_the_default_strength() -> None:
    """`bad` follows α alone: it falls as everything does, but not for the model that forgets more."""
    records = [
        record([-0.01, -0.02, -0.03, -0.04], [0.99, 0.98, 0.97, 0.96], [0.98, 0.96, 0.94, 0.92]),
        record([-0.02, -0.04, -0.06, -0.08], [0.98, 0.96, 0.94, 0.92], [0.98, 0.97, 0.95, 0.93]),
        record([-0.03, -0.06, -0.09, -0.12], [0.97, 0.94, 0.91, 0.88], [0.98, 0.98, 0.96, 0.94]),
    ]
    made = table(records)
    good, bad = made.rows
    assert (good[0], good[1], good[3], good[-1]) == ("good", "+1.00", "+1.00", "yes")
    assert (bad[0], bad[3], bad[-1]) == ("bad", "-1.00", "no")
    assert float(bad[1]) > 0
    assert "-0.040 at α 0.5" in made.note
