"""The pages that name code: existing files, functions, tests and folders, and every folder of the product."""

import ast
import re

import pytest

from tests.docs.pages import ROOT

ARCHITECTURE = "docs/explanation/architecture.md"
FOLDERS_OF = ("api", "clipcite", "core", "core/clip", "api/serving", "core/store", "worker")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def exists(path: str, name: str) -> bool:
    """Return whether the path exists and, if a name is given, defines it."""
    if not name:
        return (ROOT / path).exists()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) and node.name == name for node in ast.walk(ast.parse(text(path))))


@pytest.mark.parametrize(
    ("page", "pattern", "least"),
    [
        (ARCHITECTURE, r"`(?P<path>(?:[\w.]+/)+\w+\.\w+)(?:::(?P<name>\w+))?`", 40),
        (ARCHITECTURE, r"`(?P<path>(?:\w+/)+)`", 20),
        ("CONTRIBUTING.md", r"(?:(?<=`)|(?<= ))(?P<path>(?:\w+/)+(?:\w+\.py)?)(?=[`\s])", 15),
        ("docs/explanation/guarantees.md", r"`(?P<path>tests/[\w/]+(?:\.py)?)`", 8),
        (
            "docs/explanation/security.md",
            r"\[(?P<name>test_\w+)\]\(\.\./\.\./(?P<path>tests/[\w/]+\.py)\)",
            20,
        ),
        ("docs/reference/method.md", r"\[(?P<name>test_\w+)\]\(\.\./\.\./(?P<path>tests/[\w/]+\.py)\)", 20),
        ("docs/reference/method.md", r"\[(?P<name>\w+)\]\(\.\./\.\./(?P<path>(?!tests/)[\w/]+\.py)\)", 12),
    ],
)
def test_everything_that_a_page_names_exists(page: str, pattern: str, least: int) -> None:
    found = {(one["path"], one.groupdict().get("name") or "") for one in re.finditer(pattern, text(page))}
    assert len(found) >= least
    assert [(path, name) for path, name in found if not exists(path, name)] == []


@pytest.mark.parametrize("parent", FOLDERS_OF)
def test_every_folder_of_the_product_is_named(parent: str) -> None:
    packages = [path.parent.relative_to(ROOT).as_posix() for path in (ROOT / parent).glob("*/__init__.py")]
    assert len(packages) > 1
    assert [package for package in packages if f"`{package}/`" not in text(ARCHITECTURE)] == []
