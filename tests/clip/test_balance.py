"""γ from the shots of a model."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.balance import KEPT_AT, shots_at, trained_names_penalty


def unit(*rows: list[float]) -> Tensor:
    return F.normalize(torch.tensor(rows), dim=-1)


HEAD = torch.eye(3)  # names 0 and 1 are trained, 2 is new
SHOTS = unit([0.9, 0.1, 0.3], [0.2, 0.8, 0.1], [0.6, 0.1, 0.5])


def slow(shots: Tensor, head: Tensor, trained: list[int], balance: float) -> float:
    margins = []
    for shot in shots:
        cosines = [float(shot @ name) for name in head]
        best_trained = max(cosines[c] for c in trained)
        margins.append(best_trained - max(v for c, v in enumerate(cosines) if c not in trained))
    return max(0.0, balance * sorted(margins)[(len(margins) - 1) // 2])


@pytest.mark.parametrize("balance", [0.0, 0.25, 1.0])
def test_it_is_a_share_of_the_median_margin(balance: float) -> None:
    found = trained_names_penalty(SHOTS, HEAD, [0, 1], balance)
    assert found == pytest.approx(slow(SHOTS, HEAD, [0, 1], balance), abs=1e-6)
    assert (found == 0) == (balance == 0)


def test_names_that_come_near_the_trained_ones_leave_less() -> None:
    near = torch.cat([HEAD, unit([0.9, 0.2, 0.1])])
    assert trained_names_penalty(SHOTS, near, [0, 1], 0.5) < trained_names_penalty(SHOTS, HEAD, [0, 1], 0.5)


def test_nothing_is_taken_where_the_shots_prefer_the_new_names() -> None:
    assert trained_names_penalty(SHOTS, HEAD, [2], 0.5) == 0


@pytest.mark.parametrize("trained", [[], [0, 1, 2]])
def test_among_names_of_one_kind_there_is_nothing_to_balance(trained: list[int]) -> None:
    assert trained_names_penalty(SHOTS, HEAD, trained, 0.5) == 0


def test_without_shots_there_is_no_penalty() -> None:
    assert trained_names_penalty(torch.empty(0, 3), HEAD, [0], 0.5) == 0


def test_between_the_kept_alphas_the_features_are_interpolated() -> None:
    kept = torch.stack([SHOTS, SHOTS.roll(1, dims=1), SHOTS.roll(2, dims=1)])
    for features, alpha in zip(kept, KEPT_AT, strict=True):
        torch.testing.assert_close(shots_at(kept, alpha), features)
    between = shots_at(kept.half(), 0.75)
    assert between.dtype == torch.float32
    torch.testing.assert_close(between, F.normalize(kept[1] + kept[2], dim=-1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(between.norm(dim=-1), torch.ones(3))
