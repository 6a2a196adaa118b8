"""The decision of benchmarks/plans/mixed-requests.md, on a tiny model and on made-up outcomes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.accuracy import encodings, mixed, rules
from benchmarks.accuracy.rescore import Comparison
from benchmarks.accuracy.rules import Rule
from core.clip.models.backbone import Backbone
from tests.benchmarks.accuracy.test_rescore import arguments

__all__ = ["arguments"]


def test_the_tables_come_from_stored_features(
    arguments: list[str], backbone: Backbone, tmp_path: Path
) -> None:
    encodings.main([*arguments, "--alphas", "0.5"])
    page = tmp_path / "page.md"
    markers = [f"<!-- {name} -->\n<!-- /{name} -->" for name in ("mixed-decision", "mixed-by-rule")]
    page.write_text("\n".join(markers), encoding="utf-8")
    mixed.main([*arguments, "--page", str(page)])
    (path,) = (tmp_path / "out").glob("mixed-*.json")
    decision, by_rule, _, every = json.loads(path.read_text(encoding="utf-8"))
    assert [row[0] for row in decision["rows"][:-1]] == ["mixed HM", "all", "mixed retention"]
    assert "one new" in by_rule["columns"]
    assert len(every["rows"]) == len(rules.mixed_rules_at_half()) == len(set(rules.mixed_rules_at_half()))
    assert rules.today() in rules.mixed_rules_at_half()
    assert "**Mixed requests by leave-one-set-out: mean of 2 sets" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("differences", "adopted"),
    [
        ({"mixed HM": (0.02, 0.001), "all": (-0.005, -0.1), "mixed retention": (-0.005, -0.1)}, True),
        ({"mixed HM": (-0.005, -0.1), "all": (0.02, 0.001), "mixed retention": (0.0, -0.1)}, True),
        ({"mixed HM": (0.02, 0.001), "all": (-0.006, -0.1), "mixed retention": (0.0, -0.1)}, False),
        ({"mixed HM": (0.02, 0.0), "all": (0.02, 0.0), "mixed retention": (0.0, -0.1)}, False),
        ({"mixed HM": (0.02, 0.001), "all": (0.0, -0.1), "mixed retention": (-0.006, -0.1)}, False),
    ],
)
def test_a_rule_is_adopted_by_the_conditions_of_the_plan(
    differences: dict[str, tuple[float, float]], adopted: bool
) -> None:
    class MadeUp:
        sets = dict.fromkeys("ab", SimpleNamespace(half=[None]))

        def left_out(self) -> dict[str, Rule]:
            return dict.fromkeys(self.sets, rules.PAPER)

        def best(self, names: list[str]) -> Rule:
            return rules.PAPER

        def mean(self, chosen: dict[str, Rule]) -> dict[str, float]:
            return dict.fromkeys(differences, 0.5)

        def interval(self, ours: Any, theirs: Any, measure: str) -> tuple[float, float, float]:
            assert (ours["a"], theirs["a"]) == (rules.PAPER, rules.today())
            value, low = differences[measure]
            return value, low, value + 0.1

    (*_, last) = mixed.decision(cast(Comparison, MadeUp())).rows
    assert last[0] == ("**adopted: α 0.5**" if adopted else "**the rule before stays**")
