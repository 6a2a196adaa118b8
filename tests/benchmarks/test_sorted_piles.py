"""The measures of sorted piles, on a pile that is counted by hand."""

import pytest

from benchmarks.sorted_piles import measures


def test_measures() -> None:
    """Of three known photos, two are in a folder and one is right. One of two strangers is in a folder."""
    truth = ["a", "a", "b", None, None]
    found = ["a", "b", None, "a", None]
    assert measures(truth, found) == pytest.approx({"P": 1 / 3, "R": 1 / 3, "kept": 2 / 3, "let": 1 / 2})


def test_a_pile_of_one_kind_has_the_measures_of_that_kind() -> None:
    assert measures(["a"], ["a"]) == {"P": 1, "R": 1, "kept": 1}
    assert measures([None], [None]) == {"let": 0}
    assert measures(["a"], [None]) == {"P": 0, "R": 0, "kept": 0}
