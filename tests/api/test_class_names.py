"""Which lists of class names are remembered, and what they hold."""

import pytest

from api.class_names import ClassIn, class_names
from api.problems import InvalidRequest
from core.serving.text_cache import LruCache
from tests.core.serving.test_text_cache import held


def wide(k: int) -> tuple[str, ...]:
    """A hundred names of which each character takes 4 bytes."""
    return tuple(f"\U0001f600{k} {i}".ljust(100, "x") for i in range(100))


def test_cleaned_names_are_kept_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.class_names._cache", LruCache(1_000_000))

    def fill() -> None:
        for k in range(30):
            class_names(wide(k), 1_000)

    size = held(fill)
    assert 0.5 * 1_000_000 < size < 1.1 * 1_000_000


def test_names_that_are_refused_or_have_sentences_are_not_kept() -> None:
    def ask() -> None:
        for k in range(4):
            given = [ClassIn(name=name, prompts=["\U0001f600" * 900]) for name in wide(k)]
            class_names(given, 1_000)
            with pytest.raises(InvalidRequest):
                class_names([f"{k}\0", *wide(k)], 1_000)

    size = held(ask)
    assert size < 60_000
