"""The packages of the project, all of which are in the wheel."""

import runpy
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parents[2]
HERE_ONLY = {"benchmarks", "build", "demo", "tests"}  # These packages need a checkout.


def test_no_package_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, list[str]] = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **values: given.update(values))
    runpy.run_path("setup.py")
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/__init__.py")}
    there = {".".join(folder.parts) for folder in folders if folder.parts[0] not in HERE_ONLY}
    packages = {name.removeprefix("clipcite._server.") for name in given["packages"]}
    assert there <= packages
    assert len(there) > 30
