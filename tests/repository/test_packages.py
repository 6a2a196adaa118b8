"""The packages of the project, all of which are in the wheel."""

import ast
import re
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


def test_every_package_documents_its_contents_and_imports() -> None:
    wrong = []
    for path in ROOT.glob("[!.]*/**/__init__.py"):
        package = path.parent.relative_to(ROOT)
        if package.parts[0] in {"benchmarks", "build", "tests"} or package == Path("clipcite"):
            continue  # Users read the docstring of clipcite as an example.
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        sentences = re.findall(r"[^.]\.(?=\s|$)", text)
        if len(sentences) != 2 or "import" not in text:
            wrong.append(str(package))
    assert wrong == []
