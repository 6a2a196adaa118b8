"""The page of fault cases names tests and commands that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "fault-cases.md").read_text(encoding="utf-8")


def test_every_test_and_command_that_it_names_exists() -> None:
    tests = set(re.findall(r"`(\w+/test_\w+\.py)`", PAGE))
    commands = set(re.findall(r"python -m ([\w.]+)", PAGE))
    assert len(tests) > 10
    assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []
    assert [name for name in commands if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []
