"""Images to label next, against a plain form of the rule."""

import torch
import torch.nn.functional as F

from core.clip.inference.which_next import which_next

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = F.normalize(torch.randn(60, 8, generator=GENERATOR), dim=-1)
PROBABILITIES = (4 * torch.randn(60, 3, generator=GENERATOR)).softmax(dim=1)


def by_the_plan(n: int, labelled: set[int]) -> list[int]:
    ordered = [sorted(row, reverse=True) for row in PROBABILITIES.tolist()]
    unsure = [1 - (row[0] - row[1]) for row in ordered]
    free = [i for i in range(60) if i not in labelled]
    chosen = [max(free, key=lambda i: unsure[i])]
    while len(chosen) < n:
        left = [i for i in free if i not in chosen]
        chosen.append(
            max(left, key=lambda i: unsure[i] * min(1 - float(FEATURES[i] @ FEATURES[j]) for j in chosen))
        )
    return chosen


def test_it_is_what_the_plan_says() -> None:
    assert which_next(PROBABILITIES, FEATURES, 20) == by_the_plan(20, set())
    labelled = set(by_the_plan(5, set()))
    assert which_next(PROBABILITIES, FEATURES, 20, labelled) == by_the_plan(20, labelled)


def test_there_are_no_more_than_are_left() -> None:
    assert sorted(which_next(PROBABILITIES, FEATURES, 100, range(50))) == list(range(50, 60))
    assert which_next(PROBABILITIES, FEATURES, 0) == []
    same = FEATURES[:1].expand(4, -1)
    assert sorted(which_next(PROBABILITIES[:4, :1], same, 4)) == [
        0,
        1,
        2,
        3,
    ]  # one class, one image four times


def test_classes_that_lack_images_come_first() -> None:
    """Each gets its most certain images that have no label and may belong to a class."""
    probabilities = torch.tensor(
        [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.1, 0.9, 0], [0.45, 0.55, 0]]
    )
    features = FEATURES[:5]

    def first(count: int, missing: list[int], **but: set[int]) -> list[int]:
        return which_next(probabilities, features, count, missing=missing, **but)

    assert first(2, [0, 2, 2]) == [3, 1]
    assert first(3, [1, 2, 0]) == [0, 3, 1]
    assert first(1, [0, 2, 0]) == [3]
    assert first(2, [0, 2, 0], labelled={3}) == [1, 2]
    rest = which_next(probabilities, features, 5, labelled={3, 1})
    assert first(3, [0, 2, 0])[2] == rest[0] == 4
