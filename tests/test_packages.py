"""Every package of the project is installed by `pip install .`: they are listed by hand."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE_ONLY = {"benchmarks", "demo", "tests"}  # need a checkout


def test_no_package_is_forgotten() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/__init__.py")}
    there = {".".join(folder.parts) for folder in folders if folder.parts[0] not in HERE_ONLY}
    moved = {folder.replace("/", "."): name for name, folder in listed["package-dir"].items()}
    there = {moved.get(name, name) for name in there} | set(listed["package-data"])
    assert set(listed["packages"]) == there
