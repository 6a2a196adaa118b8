"""The page of fault cases: the tests and commands that it names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "project" / "fault-cases.md").read_text(encoding="utf-8")


def test_every_test_and_command_that_it_names_exists() -> None:
    tests = set(re.findall(r"`([\w/]+/test_\w+\.py)`", PAGE))
    commands = set(re.findall(r"python -m ([\w.]+)", PAGE))
    assert len(tests) > 10
    assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []
    folders = {name: ROOT / name.replace(".", "/") for name in commands}
    assert [
        name
        for name, path in folders.items()
        if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file())
    ] == []
