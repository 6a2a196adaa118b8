"""Labels from answers. tests/core/clip/inference/test_answers.py has the rest of the rule."""

from core.answers import labels
from tests.core.clip.inference.made_piles import say


def test_a_class_is_known_in_any_spelling() -> None:
    label = labels([*say([3], "Oak"), *say([3], "OAK", said="not_class")])[3]
    assert label.given is None
    assert label.excluded == {"oak": "OAK"}
    assert not labels([*say([3], "Oak", said="not_class"), *say([3], "oak")])[3].excluded
