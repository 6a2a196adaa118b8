"""The list of faults is current, and the command tells a fault that is noticed from one that is not."""

import ast
from pathlib import Path

import pytest

from benchmarks.mutants import MUTANTS, ROOT, Mutant, plant


def test_ids_are_unique() -> None:
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS) > 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_no_fault_is_stale(mutant: Mutant) -> None:
    """Its code occurs once, its test exists, and the file with the fault is still Python."""
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    ast.parse(text.replace(mutant.old, mutant.new))
    file, _, name = mutant.test.partition("::")
    functions = [
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert any(function.startswith("test_") for function in functions)
    assert not name or name in functions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("assertion", "outcome"),
    [
        ("one() == 1", "killed"),
        ("one() > 0", "survived"),
        ("two() == 1", "killed"),
        ("one() ==", "error, status 2"),
    ],
)
def test_outcomes(tmp_path: Path, assertion: str, outcome: str) -> None:
    (tmp_path / "ones.py").write_text("def one(): return 1\n")
    (tmp_path / "test_code.py").write_text(f"from ones import one\ndef test_one(): assert {assertion}\n")
    fault = Mutant("X", "ones.py", "return 1", "return 2", "test_code.py", "")
    assert plant(fault, tmp_path) == outcome
    assert "return 1" in (tmp_path / "ones.py").read_text()
    assert plant(Mutant("X", "ones.py", "return 3", "", "test_code.py", ""), tmp_path) == "stale"
