from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clip.data.splits import (
    MAX_FOLD_IMAGES,
    MIN_FOLD_IMAGES,
    MIN_SPLIT_IMAGES,
    make_folds,
    photo_rows,
)


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


def test_a_row_of_photos_is_consecutive_in_its_class_and_unusually_alike() -> None:
    things = np.eye(8, dtype=np.float32)
    photos = things[[0, 0, 1, 2, 2, 3, 3, 0]] + 0.1 * things[[4, 5, 4, 5, 6, 4, 7, 7]]
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    assert photo_rows([0] * 8, photos) == [0, 0, 2, 3, 3, 5, 5, 7]
    in_turns = [i for pair in zip(range(8), range(8), strict=True) for i in pair]
    assert photo_rows([0, 1] * 8, photos[in_turns]) == [0, 1, 0, 1, 4, 5, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15]
    # Nearly equal in all: the network sees no difference, so nothing is unusual.
    alike = 100 * things[0] + photos[[2, 3, 5, 7]]
    assert photo_rows([0] * 4, alike / np.linalg.norm(alike, axis=1, keepdims=True)) == [0, 1, 2, 3]
    assert photo_rows([0, 1], photos[:2]) == [0, 1]
    assert photo_rows([0, 0], photos[:1][[0, 0]]) == [0, 1]
    assert photo_rows([], photos[:0]) == []


@given(st.lists(st.integers(1, 9), min_size=2, max_size=30), st.integers(0, 1000), st.integers(1, 4))
def test_a_row_stays_in_one_fold(sizes: list[int], seed: int, classes: int) -> None:
    rows = labels_of(sizes)
    labels = [row % classes for row in rows]
    folds = make_folds(labels, seed, rows)
    for fold in folds:
        assert all(set(np.flatnonzero(np.equal(rows, rows[i]))) <= set(fold) for i in fold)
        for label in {labels[i] for i in fold}:
            assert {i for i, own in enumerate(labels) if own == label} - set(fold), (
                "a class is held out whole"
            )
    asked = [i for fold in folds for i in fold]
    assert len(asked) == len(set(asked))


def test_a_class_of_one_row_is_in_no_fold() -> None:
    labels, rows = [0] * 6 + [1] * 6, [0] * 6 + [1, 1, 1, 2, 2, 2]
    assert sorted(map(len, make_folds(labels, 0, rows))) == [3, 3]
    assert min(i for fold in make_folds(labels, 0, rows) for i in fold) == 6
    assert make_folds([0] * 6, 0, [0] * 6) == []


def test_the_single_fold_has_whole_rows() -> None:
    labels, rows = labels_of([60] * 10), labels_of([4] * 150)
    (fold,) = make_folds(labels, 0, rows)
    assert set(Counter(i // 60 for i in fold).values()) == {12}
    assert set(Counter(rows[i] for i in fold).values()) == {4}
