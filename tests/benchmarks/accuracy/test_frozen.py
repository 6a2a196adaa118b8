"""The predictions of the frozen run against made-up runs."""

import numpy as np
import pytest

from benchmarks.accuracy.frozen import PREDICTIONS, Prediction, by_set, outcomes, trials_of
from benchmarks.accuracy.measures import Difference
from benchmarks.accuracy.scores import BestScores
from benchmarks.accuracy.tables import Runs
from benchmarks.data.dataset import DataSet

LABELS = ("stock", "Preview", "CLIP-CITE, served", "FT-Probe", "FT-Probe + WiSE-FT, balanced")
RIVALS = ("Linear probe, searched", "Tip-Adapter-F, searched")


def runs_of(label: str, share: float) -> Runs:
    """Return two runs that predict this share of 40 images correctly, of 4 classes, 2 of them trained."""
    truth = np.arange(40) % 4
    scores = np.zeros((40, 4), dtype=np.float32)
    correct = np.arange(40) < round(40 * share)
    scores[np.arange(40), np.where(correct, truth, truth ^ 1)] = 1
    best = BestScores.from_scores(scores, truth, [0, 1])
    return Runs(label, {"beads": [best, best]}, {"beads": [20, 21]})


@pytest.mark.parametrize(("served", "holds"), [(0.9, True), (0.5, False)])
def test_each_prediction_is_compared_with_what_came_out(served: float, holds: bool) -> None:
    shares = dict.fromkeys(LABELS, 0.6) | {"stock": 0.5, "Preview": 0.7, "CLIP-CITE, served": served}
    half = {label: runs_of(label, share) for label, share in shares.items()}
    of_all = {label: runs_of(label, 0.6) for label in (*LABELS, *RIVALS)}
    of_all["CLIP-CITE, served"] = runs_of("CLIP-CITE, served", served)
    of_all[RIVALS[1]] = runs_of(RIVALS[1], 0.7)
    rows = list(outcomes(half, dict.fromkeys((1, 4, 16), of_all)))
    assert len(rows) == len(PREDICTIONS) == 10
    verdicts = {row[1] + row[2]: row[-1] for row in rows}
    assert verdicts.pop("BPreview − stock") == "yes"
    # In new classes served may be equal to stock.
    assert verdicts.pop("NCLIP-CITE, served − stock") == "yes"
    assert set(verdicts.values()) == ({"yes"} if holds else {"**no**"})
    assert [row[2] for row in rows if row[1] == "4 shots"] == [f"CLIP-CITE, served − {RIVALS[1]}"]
    table = by_set(half, {16: of_all})
    assert table.rows[0][:3] == ["mean", "stock", "0.500"]
    assert table.rows[0][-1] == "0.600"


def test_runs_with_all_classes_may_be_missing() -> None:
    half = {label: runs_of(label, 0.5) for label in LABELS}
    rows = list(outcomes(half, {}))
    assert [row[4] for row in rows if row[1].endswith("shots")] == ["not run"] * 3


def test_an_interval_that_holds_zero_confirms_no_gain() -> None:
    expected = Prediction("B", "a", "b", 0.1, significant=True)
    assert expected.holds(Difference(0.2, 0.01, 0.4))
    assert not expected.holds(Difference(0.2, -0.01, 0.4))
    assert not expected.holds(Difference(0.09, 0.01, 0.2))


def test_each_split_runs_once_with_its_number_as_the_seed() -> None:
    half, by_shots = trials_of([DataSet("beads", ("a", "b", "c", "d"), (), (), ())])
    assert [(t.split, t.seed, t.shots) for t in half] == [(n, n, 16) for n in range(20, 25)]
    assert {n: [t.seed for t in trials] for n, trials in by_shots.items()} == {
        n: [20, 21] for n in (1, 4, 16)
    }
