"""The command and its measurements, against real services with a tiny model."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.attacks import measure
from benchmarks.attacks.measure import Limits, Row
from benchmarks.attacks.service import Target, Tree, prepare, running
from tests.api import crafted
from tests.core.clip.tiny import make_tiny_backbone

SIDE = 4_000
IMPOSSIBLE = Limits(growth=-1, cpu=-1, answer=-1, scratch=-1, wait=-1e9)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    folder = tmp_path_factory.mktemp("attacks")
    return prepare(None, folder / "tree", folder / "cache")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"CLIPCITE_BACKBONE": make_tiny_backbone(tmp_path_factory.mktemp("backbones") / "tiny")}


@pytest.fixture(scope="module")
def target(tree: Tree, backbones: dict[str, str]) -> Iterator[Target]:
    """Start a service for the module; the module's last test kills it."""
    with running(tree, backbones, small=True) as made:
        yield made


@pytest.fixture
def row() -> Iterator[Row]:
    """Build a row that compares a large image with a small one, with impossible limits."""
    large = crafted.encoded(crafted.Image.new("RGB", (SIDE, SIDE)), "PNG")

    def honest(target: Target) -> None:
        target.classify(crafted.png())

    return Row("X", "a large image", lambda target: target.classify(large), honest, IMPOSSIBLE)


@pytest.mark.slow
def test_memory_time_answers_and_waits_are_measured(target: Target, row: Row) -> None:
    outcome = measure.measure_on(row, target)
    pixels = 3 * SIDE * SIDE
    assert 0.7 * pixels < outcome.growth < 20 * pixels
    assert outcome.cpu is not None
    assert outcome.cpu > 2  # 16,000,000 pixels compared with 1,200.
    assert outcome.statuses == {200: outcome.attacks}
    assert outcome.answer > 100
    assert outcome.waits_before is not None
    assert 0 < outcome.waits[0] <= outcome.waits[1]
    # Every limit was checked, and nothing else failed.
    words = ("memory", "CPU", "answer", "temporary files", "another client waited")
    assert len(outcome.over) == len(words)
    assert all(found.startswith(word) for word, found in zip(words, outcome.over, strict=True))
    generous = Limits(growth=1e12, cpu=1e6, answer=1e9, scratch=1e12, wait=1e6)
    assert measure.over(replace(row, limits=generous), outcome) == []


@pytest.mark.slow
def test_a_service_that_takes_too_much_memory_is_killed(
    target: Target, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MAX_MEMORY", 1)
    outcome = measure.measure_on(row, target)
    assert outcome.ended.startswith("> ")
    assert outcome.over[0] == f"did not end: {outcome.ended}"
