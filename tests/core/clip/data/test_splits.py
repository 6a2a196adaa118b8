from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clip.data.splits import MAX_FOLD_PHOTOS, MIN_FOLD_PHOTOS, MIN_SPLIT_IMAGES, make_folds


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


@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.integers(1, 4), st.integers(0, 2**63 - 1))
def test_images_of_one_photo_are_in_one_fold(sizes: list[int], most: int, seed: int) -> None:
    """Photos have 1 to `most` images. A class with a single photo is in no fold."""
    labels, photos = [], []
    for label, size in enumerate(sizes):
        for number in range(size):
            images = 1 + (number + label) % most
            labels += [label] * images
            photos += [len(photos) + 1_000] * images
    folds = make_folds(labels, seed, photos)
    where = [{photos[i] for i in fold} for fold in folds]
    for one in where:
        assert all(not one & other for other in where if other is not one)
    held = sorted(i for fold in folds for i in fold)
    count = Counter(labels)
    splittable = [
        i for i, label in enumerate(labels) if count[label] >= MIN_SPLIT_IMAGES and sizes[label] > 1
    ]
    assert held == splittable
    for fold in folds:
        assert all(
            Counter(labels[i] for i in fold)[label] < count[label] for label in {labels[i] for i in fold}
        )
    alone = [*range(len(labels))]
    assert make_folds(labels, seed, alone) == make_folds(labels, seed)


@pytest.mark.parametrize("each", [1, 3])
def test_a_fifth_of_the_photos_of_many_images_is_held_out(each: int) -> None:
    photos = [i // each for i in range(500 * each)]
    (fold,) = make_folds(labels_of([50 * each] * 10), 0, photos)
    assert len({photos[i] for i in fold}) == len(fold) / each == MIN_FOLD_PHOTOS
    assert set(Counter(photos[i] // 50 for i in fold).values()) == {10 * each}


def test_the_number_of_held_out_images_is_limited() -> None:
    (fold,) = make_folds(labels_of([500] * 10), 0)
    assert len(fold) == MAX_FOLD_PHOTOS


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
    assert len(fold) == MAX_FOLD_PHOTOS
    classes = {i // 5 for i in fold}
    assert len(classes) == MAX_FOLD_PHOTOS
    assert max(classes) > 900 > 100 > min(classes)
