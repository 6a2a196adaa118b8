"""Detectors of new classes against their definitions, image by image and pair by pair."""

import math

import numpy as np
import pytest
import torch

from benchmarks.accuracy.detectors import BOTH, MARGIN, MAXIMUM, SUM, compare, detectors, main, open_world
from benchmarks.accuracy.scores import BestScores

SCALE = 10.0


def test_values_by_hand() -> None:
    of_images = torch.tensor([[0.5, 0.4, 0.3], [0.1, 0.2, 0.6]])
    of_shots = torch.tensor([[0.6, 0.1, 0.1], [0.2, 0.5, 0.2], [0.3, 0.3, 0.5]])
    values = detectors(of_images, of_shots, [0, 1], SCALE)

    def p(row: list[float]) -> list[float]:
        total = sum(math.exp(SCALE * x) for x in row)
        return [math.exp(SCALE * x) / total for x in row]

    for i, row in enumerate(of_images.tolist()):
        assert values[MARGIN][i] == pytest.approx(max(row[:2]) - row[2])
        assert values[SUM][i] == pytest.approx(sum(p(row)[:2]), abs=1e-6)
        assert values[MAXIMUM][i] == pytest.approx(max(p(row)[:2]), abs=1e-6)
        ranks = [
            sum(of(p(shot)[:2]) <= of(p(row)[:2]) for shot in of_shots.tolist()) / 3 for of in (sum, max)
        ]
        assert values[BOTH][i] == pytest.approx(sum(ranks), abs=1e-5)


@pytest.fixture
def run() -> tuple[BestScores, dict[str, np.ndarray]]:
    generator = np.random.default_rng(2)
    truth = np.arange(40) % 4
    scores = generator.normal(0, 0.1, (40, 4)).astype(np.float32)
    scores[np.arange(40), truth] += 0.1
    values = detectors(torch.from_numpy(scores), torch.from_numpy(scores[:8]), [0, 2], SCALE)
    return BestScores.from_scores(scores, truth, [0, 2]), dict(values)


def test_weighted_pairs(run: tuple[BestScores, dict[str, np.ndarray]]) -> None:
    best, values = run
    once = open_world(best, values[SUM], np.ones((1, 40)))
    plain = best.open_world(values[SUM])
    assert {name: value[0] for name, value in once.items()} == pytest.approx(
        {name: plain[name] for name in once}
    )
    # An image that counts twice is the same as the image repeated.
    weights = np.ones((1, 40))
    weights[0, 0] = 2
    rows = [0, *range(40)]
    repeated = BestScores(
        best.truth[rows],
        best.trained,
        best.best_trained[rows],
        best.trained_score[rows],
        best.best_new[rows],
        best.new_score[rows],
        best.within_kind[rows],
    )
    twice = open_world(best, values[SUM], weights)
    assert twice["OwAUC"][0] == pytest.approx(repeated.open_world(values[SUM][rows])["OwAUC"])


def test_a_detector_that_knows_the_kind_is_best(run: tuple[BestScores, dict[str, np.ndarray]]) -> None:
    best, values = run
    perfect = {**values, SUM: best.is_trained.astype(np.float64)}
    table = compare({"beads": [(best, perfect), (best, perfect)], "coins": [(best, values)]})
    rows = {row[0]: row[1:] for row in table.rows}
    assert float(rows[SUM][0]) == pytest.approx((1 + best.open_world(values[SUM])["AUROC"]) / 2, abs=1e-3)
    gain = rows[SUM][5].replace("−", "-").split()
    assert float(gain[0]) > 0
    assert rows[MARGIN][4:] == ["", ""]


def test_without_features_the_error_says_what_to_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(SystemExit, match=r"benchmarks\.accuracy\.encodings first"):
        main(["--encodings", str(tmp_path_factory.mktemp("empty"))])
