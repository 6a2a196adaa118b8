"""The pages that name code: existing files, functions, tests and folders, and every folder of the product."""

import ast
import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
FOLDERS_OF = ("api", "clipcite", "core", "core/clip", "core/serving", "core/store", "worker")
FILES = sorted(set(re.findall(r"`((?:[\w.]+/)+\w+\.\w+)(?:::\w+)?`", PAGE)))
REFERENCES = sorted(set(re.findall(r"`((?:\w+/)+\w+\.py)::(\w+)`", PAGE)))


def definitions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_file_that_it_names_exists() -> None:
    assert len(FILES) > 40
    assert [name for name in FILES if not (ROOT / name).is_file()] == []


def test_every_file_that_the_newcomers_page_names_exists() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:(?<=`)|(?<= ))((?:\w+/)+(?:\w+\.py)?)(?=[`\s])", page))
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_function_that_it_names_is_in_that_file() -> None:
    assert len(REFERENCES) > 30
    assert [f"{path}::{name}" for path, name in REFERENCES if name not in definitions(path)] == []


def test_every_test_that_the_fault_cases_name_exists() -> None:
    page = (ROOT / "docs" / "project" / "fault-cases.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+/test_\w+\.py)`", page))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_every_test_that_the_security_page_links_exists() -> None:
    page = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
    links = re.findall(r"\[(test_\w+)\]\(\.\./\.\./(tests/[\w/]+\.py)\)", page)
    assert len(links) > 20
    assert [f"{path}::{name}" for name, path in links if name not in definitions(path)] == []


def test_every_function_and_test_of_the_method_page_exists() -> None:
    page = (ROOT / "docs" / "reference" / "method.md").read_text(encoding="utf-8")
    links = re.findall(r"\[(\w+)\]\(\.\./\.\./([\w/]+\.py)\)", page)
    tests = [name for name, path in links if path.startswith("tests/")]
    assert len(tests) > 20
    assert all(name.startswith("test_") for name in tests)
    assert len(links) - len(tests) >= 12
    assert [f"{path}::{name}" for name, path in links if name not in definitions(path)] == []


def test_every_folder_that_it_names_exists() -> None:
    folders = set(re.findall(r"`((?:\w+/)+)`", PAGE))
    assert [name for name in folders if not (ROOT / name).is_dir()] == []


@pytest.mark.parametrize("parent", FOLDERS_OF)
def test_every_folder_of_the_product_is_named(parent: str) -> None:
    packages = [path.parent.relative_to(ROOT).as_posix() for path in (ROOT / parent).glob("*/__init__.py")]
    assert len(packages) > 1
    assert [package for package in packages if f"`{package}/`" not in PAGE] == []
