"""The sort of a pile, what measures it, and its interval."""

import numpy as np
import pytest
import torch
from scipy import stats

from core.clip.inference import sort
from core.clip.inference.answers import Answers
from core.clip.inference.graph import Ints, Neighbours
from core.clip.inference.labelled import Sorter
from core.clip.inference.pile import NONE
from core.clip.inference.sort import SortedPile, draw_order, measuring_images, share_interval, sort_pile
from tests.core.clip.inference.made_piles import (
    CENTRES,
    CLASSES,
    SHOT_LABELS,
    TRUTH,
    Said,
    answered,
    blurred,
    say,
)

NAMES = [*"abcd"]
IMAGES = torch.from_numpy(blurred(TRUTH, 3))
NEAREST = Neighbours.among(IMAGES.numpy())
SHOTS = torch.from_numpy(blurred(SHOT_LABELS, 2)), torch.from_numpy(SHOT_LABELS)
SORTER = Sorter(NAMES, torch.from_numpy(CENTRES[:CLASSES].copy()), [*range(CLASSES)], SHOTS, 40.0, 0.35)
ORDER = draw_order("pile", len(IMAGES))


def sorted_by(answers: Answers, sorter: Sorter = SORTER, order: Ints = ORDER) -> SortedPile:
    return sort_pile(IMAGES, sorter, answers, NEAREST, order)


def of(*given: list[Said]) -> Answers:
    return answered(*given, names=NAMES)


def truly(rows: Ints, how: str) -> list[Said]:
    return [
        answer for at in rows for answer in say([at], NAMES[TRUTH[at]] if TRUTH[at] < CLASSES else None, how)
    ]


def test_what_a_person_said_stays_and_an_excluded_class_is_not_chosen() -> None:
    plain = sorted_by(of())
    sure = int(np.flatnonzero(plain.places == 0)[0])
    said = sorted_by(of(say([sure], "d", "moved"), say([sure + 8], None, "moved")))
    assert said.places[[sure, sure + 8]].tolist() == [3, NONE]
    probable = plain.scores.probabilities[sure].argsort(descending=True).tolist()
    barred = sorted_by(of(say([sure], NAMES[probable[0]], said="not_class")))
    assert barred.places[sure] == probable[1]
    every = sorted_by(of(*(say([sure], name, said="not_class") for name in NAMES)))
    assert every.places[sure] in range(CLASSES)


def test_who_skips_images_has_said_nothing() -> None:
    plain, skipped = sorted_by(of()), sorted_by(of(say([0, 1, 8], None, said="skip")))
    assert (plain.places == NONE).any()
    assert skipped.places.tolist() == plain.places.tolist()


def test_barred_images_teach_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Self-training would give them the class that a person excluded."""
    taught: list[int] = []

    def watched(features: torch.Tensor, *others: object) -> str:
        taught.append(len(features))
        return "no self-training"

    monkeypatch.setattr(sort, "self_training_or_reason", watched)
    sorted_by(of())
    sorted_by(of(say([0, 1, 8], "b", said="not_class"), say([9], "b")))
    assert taught[1] > taught[0]  # with an answer, nothing is apart
    apart = sorted_by(of()).apart.apart.sum()
    assert taught[:2] == [len(IMAGES) - apart, len(IMAGES) - 4]


def test_a_name_without_images_sets_nothing_apart() -> None:
    none = np.flatnonzero(TRUTH == 5)
    answers = say(none[:6], None)
    far = int(none[10])
    assert sorted_by(of(answers)).places[far] == NONE
    texts = torch.cat([SORTER.texts, torch.from_numpy(CENTRES[5:6])])
    more = Sorter([*NAMES, "e"], texts, [*range(CLASSES), -1], SHOTS, 40.0, 0.35)
    found = sort_pile(IMAGES, more, answered(answers, names=more.names), NEAREST, ORDER)
    assert found.places[far] == 4


def test_labels_alone_sort_a_pile_without_a_model() -> None:
    stock = Sorter(NAMES, SORTER.texts, [-1] * CLASSES, None, 40.0, 0.35, alone="no model")
    known = np.concatenate([np.flatnonzero(kind == TRUTH)[:8] for kind in range(CLASSES)])
    none = np.flatnonzero(TRUTH >= CLASSES)[:8]
    done = sorted_by(of(truly(known, "group"), truly(none, "group")), stock)
    assert (done.method, done.reason) == ("image_by_image", "no model")
    assert np.isfinite(done.apart.limit)
    strangers = TRUTH >= CLASSES
    assert (done.places == NONE)[strangers].mean() > 0.6
    assert (done.places == TRUTH)[~strangers].mean() > 0.5


def test_the_order_of_drawing_depends_on_pile_and_position_alone() -> None:
    order = draw_order("pil_1", 500)
    assert sorted(order.tolist()) == list(range(500))
    assert order.tolist() == draw_order("pil_1", 500).tolist()
    assert order.tolist() != draw_order("pil_2", 500).tolist()
    more = draw_order("pil_1", 900)
    assert more[more < 500].tolist() == order.tolist()
    places = np.mean([np.argsort(draw_order(f"pil_{seed}", 20)) for seed in range(400)], axis=0)
    assert places == pytest.approx(9.5, abs=1.5)


def test_images_measure_up_to_the_first_one_that_nobody_was_asked_about_alone() -> None:
    order = ORDER
    said = [
        truly(order[:8], "group"),
        truly(order[:3], "drawn"),
        say(order[3:4], None, said="skip", how="drawn"),
        truly(order[4:6], "drawn"),
    ]
    answers = of(*said, truly(order[7:9], "drawn"))
    assert measuring_images(answers, order).tolist() == order[[0, 1, 2, 4, 5]].tolist()
    complete = of(*said, truly(order[6:9], "chosen"))
    assert measuring_images(complete, order).tolist() == order[[0, 1, 2, 4, 5, 6, 7, 8]].tolist()
    moved = of(*said, truly(order[6:7], "moved"))
    assert measuring_images(moved, order).tolist() == order[[0, 1, 2, 4, 5, 6]].tolist()
    excluded = of(truly(order[:2], "drawn"), say(order[2:3], "a", said="not_class"))
    assert measuring_images(excluded, order).tolist() == order[:2].tolist()


def test_a_drawn_image_is_judged_without_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sort, "FOLDS", (1000, 1000))
    said = [
        truly(ORDER[60:100], "group"),
        truly(ORDER[:16], "drawn"),
        truly(ORDER[16:20], "chosen"),
        say(ORDER[:2], "d", said="not_class"),
    ]
    answers = of(*said)
    done = sorted_by(answers)
    assert done.measuring.tolist() == ORDER[:20].tolist()
    assert done.right[16:].all()  # a person has put them there
    assert not done.right.all()
    assert (done.places[ORDER[:20]] == np.where(TRUTH < CLASSES, TRUTH, NONE)[ORDER[:20]]).all()
    for number, at in enumerate(ORDER[:16].tolist()):
        other = sorted_by(answers.without(np.array([at])))
        assert done.right[number] == (other.places[at] == answers.labels[at]), at


def test_what_was_said_of_a_group_is_judged_by_the_answer_about_the_image_alone() -> None:
    wrong = ORDER[:12:4]
    done = sorted_by(
        of(truly(ORDER[:60], "group"), say(wrong, "d", "group"), truly(ORDER[:12], "drawn")), order=ORDER
    )
    true = TRUTH[wrong] == NAMES.index("d")
    assert not true.all()
    assert done.right.tolist() == [
        bool(true[number // 4]) if number % 4 == 0 else True for number in range(12)
    ]
    assert (done.places[wrong] == np.where(TRUTH < CLASSES, TRUTH, NONE)[wrong]).all()


def test_folds_leave_out_all_drawn_images_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out: list[int] = []
    without = Answers.without

    def watched(answers: Answers, rows: Ints) -> Answers:
        left_out.extend(rows.tolist())
        return without(answers, rows)

    monkeypatch.setattr(Answers, "without", watched)
    sorted_by(of(truly(ORDER[33:40], "group"), truly(ORDER[:36], "drawn"), truly(ORDER[36:38], "chosen")))
    assert sorted(left_out) == sorted(ORDER[:33].tolist())


@pytest.mark.parametrize(("total", "count"), [(30, 10), (60, 24), (400, 20)])
def test_the_interval_covers_the_share_of_a_finite_pile(total: int, count: int) -> None:
    intervals = [share_interval(right, count, total) for right in range(count + 1)]
    for good in range(total + 1):
        covers = [low - 1e-9 <= good / total <= high + 1e-9 for low, high in intervals]
        chances = stats.hypergeom(total, good, count).pmf(range(count + 1))
        assert chances[covers].sum() >= 0.95
    assert share_interval(count, count, total)[1] == 1
    assert share_interval(total, total, total) == (1, 1)
