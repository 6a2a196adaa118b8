"""Class offsets from a model's support set, against plain loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import NEW_CLASS, class_offsets
from core.clip.weights.support_set import SUPPORT_ALPHAS, SupportSet


def unit(*rows: list[float]) -> Tensor:
    return F.normalize(torch.tensor(rows), dim=-1)


HEAD = unit([1, 0.1, 0], [0, 1, 0.2], [0.1, 0.1, 1])
CLASSES = [0, 1, NEW_CLASS]
SHOTS = unit([0.9, 0.1, 0.3], [0.2, 0.8, 0.1], [0.6, 0.1, 0.5])
LABELS = torch.tensor([0, 1, 0])


def slow(
    shots: Tensor,
    labels: list[int],
    head: Tensor,
    classes: list[int],
    balance: float,
    level_share: float = 0.4,
) -> list[float]:
    offsets = []
    mixed = NEW_CLASS in classes and any(c != NEW_CLASS for c in classes)
    share = level_share if mixed else 1
    for name, of_class in zip(head, classes, strict=True):
        means = []
        for label in sorted(set(labels) - {of_class}):
            cosines = [float(s @ name) for s, own in zip(shots, labels, strict=True) if own == label]
            means.append(sum(cosines) / len(cosines))
        offsets.append(share * min(1, 2 * balance) * sum(means) / len(means) if means else 0.0)
    if mixed:
        margins = []
        for shot in shots:
            left = [float(shot @ name) - off for name, off in zip(head, offsets, strict=True)]
            best_new = max(v for v, c in zip(left, classes, strict=True) if c == NEW_CLASS)
            margins.append(max(v for v, c in zip(left, classes, strict=True) if c != NEW_CLASS) - best_new)
        gamma = balance * max(0.0, sorted(margins)[(len(margins) - 1) // 2])
        offsets = [off + gamma * (c != NEW_CLASS) for off, c in zip(offsets, classes, strict=True)]
    return offsets


@pytest.mark.parametrize("balance", [0.0, 0.2, 0.35, 1.0])
@pytest.mark.parametrize(
    "classes",
    [[0, 1, NEW_CLASS], [1, NEW_CLASS, NEW_CLASS], [NEW_CLASS, NEW_CLASS, 0], [0, 1, 2], [NEW_CLASS] * 3],
)
def test_offsets_equal_the_plain_loops(balance: float, classes: list[int]) -> None:
    found = class_offsets(SHOTS, LABELS, HEAD, classes, balance)
    assert found.tolist() == pytest.approx(slow(SHOTS, LABELS.tolist(), HEAD, classes, balance), abs=1e-6)
    assert (found == 0).all() == (balance == 0)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_two_and_three_classes_count_in_part_by_default(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(count)
    sizes = (2 * count, count + 2)
    shots, head = (F.normalize(torch.randn(n, 8, generator=generator), dim=-1) for n in sizes)
    labels = torch.arange(count).repeat(2)
    classes = [*range(count), NEW_CLASS, NEW_CLASS]
    found = class_offsets(shots, labels, head, classes, 0.35)
    for share in (0.4, 0.6, 1.0):
        monkeypatch.setattr("core.clip.inference.class_offsets.LEVEL_SHARES", {count: share})
        same = torch.equal(found, class_offsets(shots, labels, head, classes, 0.35))
        assert same == (share == {2: 0.4, 3: 0.6}.get(count, 1.0))


def test_between_the_kept_alphas_the_features_are_interpolated() -> None:
    kept = SupportSet(torch.stack([SHOTS, SHOTS.roll(1, dims=1), SHOTS.roll(2, dims=1)]), LABELS)
    for features, alpha in zip(kept.features, SUPPORT_ALPHAS, strict=True):
        torch.testing.assert_close(kept.at(alpha), features)
    between = SupportSet(kept.features.half(), LABELS).at(0.75)
    assert between.dtype == torch.float32
    expected = F.normalize(kept.features[1] + kept.features[2], dim=-1)
    torch.testing.assert_close(between, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(between.norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize("classes", [[0, NEW_CLASS, NEW_CLASS], [NEW_CLASS, 0, NEW_CLASS], [0, NEW_CLASS]])
def test_shots_of_one_class_give_it_no_offset(classes: list[int]) -> None:
    """The mean over other classes is empty: its sum is 0, not NaN."""
    labels = torch.tensor([0, 0, 0])
    head = HEAD[: len(classes)]
    found = class_offsets(SHOTS, labels, head, classes, 0.35)
    assert found.isfinite().all()
    assert found.tolist() == pytest.approx(slow(SHOTS, [0, 0, 0], head, classes, 0.35, 0.2), abs=1e-6)
