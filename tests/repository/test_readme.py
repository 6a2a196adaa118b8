"""The README against the code."""

import re
from pathlib import Path

from core.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
INTERNAL = {"exit_with_parent"}  # set by `clipcite serve` for its children only
DEFAULTS = {"data": "the user's data folder", "cache": "the user's cache folder"}


def settings_table() -> list[str]:
    """Return the table rows that the README must have."""
    rows = []
    for name, field in Settings.model_fields.items():
        if name not in INTERNAL:
            default = DEFAULTS.get(name) or (f"`{field.default}`" if field.default is not None else "–")
            rows.append(f"| `CLIPCITE_{name.upper()}` | {default} | {field.description} |")
    return rows


def test_every_setting_is_described() -> None:
    described = [line for line in README.splitlines() if line.startswith("| `CLIPCITE_")]
    assert described == settings_table()


def test_every_number_has_its_command() -> None:
    assert "python -m benchmarks.accuracy.paper" in README
    modules = set(
        re.findall(r"python -m (benchmarks(?:\.\w+)+|demo\.\w+|worker\.\w+|api\b|worker\b)", README)
    )
    for module in modules:
        path = Path(__file__).parents[2] / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
