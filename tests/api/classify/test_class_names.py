"""The cache of cleaned class names, and its size in bytes."""

import pytest

from api.classify.class_names import class_names
from api.http.problems import InvalidRequest
from clipcite.wire.classify import ClassIn
from core.serving.text_cache import LruCache
from tests.core.serving.test_text_cache import held


def wide(k: int) -> tuple[str, ...]:
    """Return a hundred names in which each character takes 4 bytes."""
    return tuple(f"\U0001f600{k} {i}".ljust(100, "x") for i in range(100))


def test_cleaned_names_are_kept_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.classify.class_names._cache", LruCache(1_000_000))

    def fill() -> None:
        for k in range(30):
            class_names(wide(k), 1_000)

    size = held(fill)
    assert 0.5 * 1_000_000 < size < 1.1 * 1_000_000


def test_refused_names_and_names_with_prompts_are_not_cached() -> None:
    def clean() -> None:
        for k in range(4):
            given = [ClassIn(name=name, prompts=["\U0001f600" * 900]) for name in wide(k)]
            class_names(given, 1_000)
            with pytest.raises(InvalidRequest):
                class_names([f"{k}\0", *wide(k)], 1_000)

    size = held(clean)
    assert size < 60_000
