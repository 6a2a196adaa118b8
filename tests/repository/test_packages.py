"""Every package of the project is found by setuptools."""

import tomllib
from pathlib import Path

from setuptools import find_namespace_packages

ROOT = Path(__file__).parents[2]
HERE_ONLY = {"benchmarks", "demo", "tests"}  # need a checkout


def test_no_package_is_forgotten() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/__init__.py")}
    there = {".".join(folder.parts) for folder in folders if folder.parts[0] not in HERE_ONLY | {"build"}}
    assert there <= set(find_namespace_packages(str(ROOT), include=found["include"]))
    assert len(there) > 30
