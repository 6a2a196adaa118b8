"""The cache of cleaned class names."""

import pytest

from api.classify.class_names import class_names
from api.http.problems import InvalidRequest
from clipcite.wire.classify import ClassIn
from tests.core.serving.test_text_cache import held


def wide(k: int) -> tuple[str, ...]:
    """Return a hundred names in which each character takes 4 bytes."""
    return tuple(f"\U0001f600{k} {i}".ljust(100, "x") for i in range(100))


def test_equal_lists_are_cleaned_once() -> None:
    assert class_names(wide(0))[0] is class_names(list(wide(0)))[0]


def test_refused_names_and_names_with_prompts_are_not_cached() -> None:
    def clean() -> None:
        for k in range(4):
            given = [ClassIn(name=name, prompts=["\U0001f600" * 900]) for name in wide(k)]
            class_names(given)
            with pytest.raises(InvalidRequest):
                class_names([f"{k}\0", *wide(k)])

    size = held(clean)
    assert size < 60_000
