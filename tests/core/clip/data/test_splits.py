from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clip.data.splits import MAX_FOLD_IMAGES, MIN_FOLD_IMAGES, MIN_SPLIT_IMAGES, make_folds


def labels_of(sizes: list[int]) -> list[int]:
    return [label for label, size in enumerate(sizes) for _ in range(size)]


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(0, 2**63 - 1))
def test_halves_hold_out_every_image_of_large_classes_once(sizes: list[int], seed: int) -> None:
    labels = labels_of(sizes)
    folds = make_folds(labels, seed)
    asked = [i for fold in folds for i in fold]
    large = [i for i, label in enumerate(labels) if sizes[label] >= MIN_SPLIT_IMAGES]
    assert sorted(asked) == large
    assert len(folds) == (2 if large else 0)
    for fold in folds:
        assert fold == sorted(fold)
        of_class = Counter(labels[i] for i in fold)
        for label, count in of_class.items():
            assert abs(2 * count - sizes[label]) <= 1  # Never the whole of one class.
    assert make_folds(labels, seed) == folds


def test_a_fifth_of_many_images_is_held_out() -> None:
    (fold,) = make_folds(labels_of([50] * 10), 0)
    assert len(fold) == MIN_FOLD_IMAGES
    assert set(Counter(i // 50 for i in fold).values()) == {10}


def test_the_number_of_held_out_images_is_limited() -> None:
    (fold,) = make_folds(labels_of([500] * 10), 0)
    assert len(fold) == MAX_FOLD_IMAGES


def test_odd_images_fall_to_either_half() -> None:
    one, other = make_folds(labels_of([5] * 6), 0)
    assert len(one) == len(other) == 15


@pytest.mark.parametrize("sizes", [[4, 4], [1, 4, 3]])
def test_too_few_images_give_no_fold_model(sizes: list[int]) -> None:
    assert make_folds(labels_of(sizes), 0) == []


def test_the_seed_shuffles() -> None:
    labels = labels_of([10, 10])
    assert len({tuple(make_folds(labels, seed)[0]) for seed in range(8)}) > 4


def test_very_many_classes_do_not_exceed_the_limit() -> None:
    (fold,) = make_folds(labels_of([5] * 1000), 0)
    assert len(fold) == MAX_FOLD_IMAGES
    classes = {i // 5 for i in fold}
    assert len(classes) == MAX_FOLD_IMAGES
    assert max(classes) > 900 > 100 > min(classes)
