"""What counts of what people said."""

import numpy as np

from core.clip.inference.answers import TAUGHT, UNSAID, Answers
from core.clip.inference.pile import NONE
from tests.core.clip.inference.made_piles import Said, say


def of(*given: list[Said], count: int = 12) -> Answers:
    return Answers.of(count, [each for act in given for each in act])


def test_the_last_answer_counts() -> None:
    found = of(say([0, 1, 2], "oak"), say([1], "Beech", "moved"), say([2], None), say([3], "OAK"))
    assert found.names == ("oak", "Beech")  # names that differ in case alone are one class
    assert found.labels[:5].tolist() == [0, 1, NONE, 0, UNSAID]
    assert found.seen[:5].tolist() == [True, True, True, True, False]


def test_an_excluded_class_takes_only_its_own_label() -> None:
    found = of(
        say([0, 1], "oak"), say([0, 1, 2], "beech", said="not_class"), say([1], "oak", said="not_class")
    )
    assert found.labels[:3].tolist() == [0, UNSAID, UNSAID]
    assert found.barred[:3].tolist() == [[False, True], [True, True], [False, True]]
    again = of(say([2], "beech", said="not_class"), say([2], "beech"))
    assert again.labels[2] == 0
    assert not again.barred.any()


def test_an_image_may_never_be_none_of_these() -> None:
    found = of(say([0], None), say([0, 1], None, said="not_class"), say([2], None, said="not_class"))
    assert found.labels[:3].tolist() == [UNSAID] * 3
    assert found.never_none[:4].tolist() == [True, True, True, False]
    assert not of(say([0], None, said="not_class"), say([0], None)).never_none.any()


def test_unseen_members_have_no_label() -> None:
    found = of(say([0, 1], "oak"), say([2, 3], "oak", "member"), say([4], None, "member"))
    assert found.labels[:5].tolist() == [0, 0, UNSAID, UNSAID, UNSAID]
    assert found.named[:6].tolist() == [UNSAID, UNSAID, 0, 0, NONE, UNSAID]
    assert found.seen.sum() == 2


def test_a_skipped_image_keeps_its_label_and_withdrawn_takes_everything() -> None:
    found = of(say([0], "oak"), say([0, 1], None, said="skip"))
    assert (found.labels[:2].tolist(), found.skipped[:2].tolist()) == ([0, UNSAID], [False, True])
    gone = of(
        say([0, 1], "oak", "drawn"),
        say([2], "oak", "member"),
        say([3], "beech", said="not_class"),
        say([4], None, said="not_class"),
        say([5], None, said="skip"),
        say(range(6), None, said="withdrawn", how="moved"),
    )
    assert gone.nothing
    assert not gone.labelled.any()
    assert not any(marks.any() for marks in (gone.drawn, gone.examples, gone.barred, gone.skipped))
    assert (gone.named == UNSAID).all()


def test_a_drawn_image_stays_drawn() -> None:
    found = of(say([0, 1], "oak", "drawn"), say([0], "beech", "moved"), say([2], "oak", "moved"))
    assert found.drawn[:4].tolist() == [True, True, False, False]
    assert found.examples[:4].tolist() == [False, False, True, False]


def test_a_label_is_checked_once_a_person_was_asked_about_the_image_alone() -> None:
    group = say(range(6), "oak")
    found = of(
        group,
        say([0], "oak", "drawn"),
        say([1], "beech", "chosen"),
        say([2], None, said="skip", how="drawn"),
        say([3], "beech", "moved"),
        say([4], "beech", "drawn"),
        say([4], "oak", "moved"),
        say([5], "oak", "drawn"),
        say([5], "oak", said="not_class"),
        say([6], "oak", "drawn"),
        say([7], None, said="skip"),
    )
    assert found.alone[:9].tolist() == [True, True, True, True, True, False, True, False, False]
    assert found.checked[:8].tolist() == [True, True, False, True, True, False, True, False]
    assert found.had_label[:8].tolist() == [True, False, False, False, True, False, False, False]
    assert found.confirmed[:8].tolist() == [True, False, False, False, True, False, False, False]
    again = of(group, say([0], "oak", "drawn"), say([0], None, said="withdrawn"), say([0], "beech", "drawn"))
    assert (again.checked[0], again.had_label[0]) == (True, False)


def test_the_first_images_of_each_group_are_examples() -> None:
    found = of(say(range(7), "oak"), say([7], "oak", "member"), say(range(8, 12), "oak"), count=12)
    assert found.examples.tolist() == [True] * TAUGHT + [False] * 3 + [True] * 4
    assert found.groups == 2
    skipped = of(say(range(3), None, said="skip"), say([4], "oak", said="not_class"), say([5], None))
    assert skipped.groups == 2


def test_classes_get_the_columns_of_a_sort() -> None:
    found = of(
        say([0], "oak"), say([1], "beech", said="not_class"), say([2], None), say([3], "beech", "member")
    )
    placed = found.columns(["elm", "Beech", "oak"])
    assert placed.labels[:4].tolist() == [2, UNSAID, NONE, UNSAID]
    assert placed.named[3] == 1
    assert placed.barred[1].tolist() == [False, True, False]
    fewer = placed.without(placed.labels.argsort()[-1:])
    assert fewer.labels[:4].tolist() == [UNSAID, UNSAID, NONE, UNSAID]
    assert placed.labels[0] == 2
    assert placed.without(np.array([1])).barred[1].tolist() == [False, True, False]
