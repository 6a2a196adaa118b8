"""The decision of benchmarks/plans/discriminants.md, on a tiny model and on made-up outcomes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.accuracy import confirm, encodings
from benchmarks.accuracy.confirm import ARMS, BEFORE, adopted, criteria
from benchmarks.accuracy.rescore import Comparison
from benchmarks.accuracy.rules import Rule
from core.clip.models.backbone import Backbone
from tests.benchmarks.accuracy.test_rescore import COMMAND, arguments

__all__ = ["arguments"]


@pytest.mark.slow
def test_the_tables_come_from_stored_features(
    arguments: list[str], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm, "COUNTS", (1, 2))
    encodings.main([*arguments, "--alphas", "0.5"])
    few = [*arguments[: arguments.index("--unrelated")], *COMMAND, "--alphas", "0.5"]
    encodings.main([*few, "--setting", "fsl", "--shot-counts", "1", "2", "--first-split", "8"])
    stored = encodings.read(next((tmp_path / "out" / "encodings").iterdir()))
    assert set(stored.images) == {0.0, 0.5}

    page = tmp_path / "page.md"
    names = ["kinds-served", *(f"kinds-{kind}" for kind in ARMS)]
    page.write_text("\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in names), encoding="utf-8")
    confirm.main([*arguments, "--few-shot-seeds", "2", "--first-few-shot-seed", "8", "--page", str(page)])
    (path,) = (tmp_path / "out").glob("kinds-*.json")
    overview, closed, mixed, foreign, preview, by_set = json.loads(path.read_text(encoding="utf-8"))
    assert [row[0] for row in overview["rows"]] == ["stock", "offsets", "**served**"]
    assert overview["columns"][1:] == ["B", "N", "mixed HM", "all", "retention"]
    assert [row[0] for row in closed["rows"]] == ["B", "1 shots", "2 shots"]
    assert "Decision: " in closed["note"]
    assert "Decision: " in mixed["note"]
    assert "Decision: " not in foreign["note"]
    assert {"B", "2 shots", "all"} < {row[0] for row in preview["rows"]}
    assert {row[0] for row in mixed["rows"]} > {"mixed HM", "all", "one new", "mixed retention"}
    assert len(by_set["rows"]) == 2 * 3
    assert "**Closed requests: mean of 2 sets" in page.read_text(encoding="utf-8")
    # The mean over the sets of a row by set is the row of the table.
    for label, column in (("served", 1), ("offsets", 2)):
        of_set = [float(row[3]) for row in by_set["rows"] if row[1] == label]
        (n,) = (row for row in foreign["rows"] if row[0] == "N")
        assert float(n[column]) == pytest.approx(np.mean(of_set), abs=1e-3)
    # Trained or new is decided by the offsets alone.
    (mixed_n,) = (row for row in mixed["rows"] if row[0] == "mixed N")
    assert mixed_n[1] == mixed_n[3]


def test_an_incomplete_series_decides_nothing_about_closed_requests(
    arguments: list[str], tmp_path: Path
) -> None:
    encodings.main([*arguments, "--alphas", "0.5"])
    confirm.main([*arguments, "--few-shot-seeds", "2"])
    (path,) = (tmp_path / "out").glob("kinds-*.json")
    _, closed, *_ = json.loads(path.read_text(encoding="utf-8"))
    assert "Decision: incomplete" in closed["note"]


def comparison(kind: str, **differences: tuple[float, float]) -> Comparison:
    """Return a comparison whose differences and lower limits are given by measure."""

    class MadeUp:
        def interval(
            self, ours: dict[str, Rule], theirs: dict[str, Rule], measure: str
        ) -> tuple[float, float, float]:
            assert set(ours.values()) == {ARMS[kind]["served"]}
            assert set(theirs.values()) == {BEFORE[kind]}
            value, low = differences[measure.replace(" ", "_")]
            return value, low, value + 0.1

    made: Any = MadeUp()
    made.kind = kind
    made.sets = dict.fromkeys("ab", SimpleNamespace(by_shots={1: [None]}))
    return cast(Comparison, made)


FEWER_SHOTS = {"1_shots": (-0.005, -0.1), "2_shots": (0.0, -0.1), "4_shots": (0.0, -0.1)}
KEPT = {"mixed_HM": (-0.005, -0.1), "mixed_retention": (-0.005, -0.1)}


@pytest.mark.parametrize(
    ("kind", "differences", "expected"),
    [
        ("mixed", {"all": (0.02, 0.001), **KEPT}, True),
        ("mixed", {"all": (0.02, 0.0), **KEPT}, False),
        ("mixed", {"all": (0.02, 0.001), **KEPT, "mixed_HM": (-0.006, 0.0)}, False),
        ("mixed", {"all": (0.02, 0.001), **KEPT, "mixed_retention": (-0.006, 0.0)}, False),
        ("closed", {"16_shots": (0.02, 0.001), "B": (-0.003, -0.1), **FEWER_SHOTS}, True),
        ("preview", {"16_shots": (0.02, 0.001), "B": (0.0, 0.0), "all": (-0.005, 0.0), **FEWER_SHOTS}, True),
        ("preview", {"16_shots": (0.02, 0.001), "B": (0.0, 0.0), "all": (-0.006, 0.0), **FEWER_SHOTS}, False),
        ("closed", {"16_shots": (0.02, 0.0), "B": (0.0, -0.1), **FEWER_SHOTS}, False),
        ("closed", {"16_shots": (0.02, 0.001), "B": (-0.004, -0.1), **FEWER_SHOTS}, False),
        (
            "closed",
            {"16_shots": (0.02, 0.001), "B": (0.0, 0.0), **FEWER_SHOTS, "2_shots": (-0.006, 0.0)},
            False,
        ),
    ],
)
def test_the_conditions_of_the_plan(
    kind: str, differences: dict[str, tuple[float, float]], expected: bool
) -> None:
    made = comparison(kind, **differences)
    assert adopted(made, ["a", "b"]) is expected
    assert {c.measure.replace(" ", "_") for c in criteria(kind)} == set(differences)
