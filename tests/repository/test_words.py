"""The project's language: no retired word, and the rules of CONTRIBUTING.md that a program can check."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
RETIRED = tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))
FOLDERS = (
    "api",
    "worker",
    "core",
    "clipcite",
    "migrations",
    "benchmarks",
    "demo",
    "docs",
    "deploy",
    "examples",
    "tests",
)
KINDS = {".py", ".js", ".css", ".html", ".j2", ".md", ".toml", ".yml", ".yaml"}
EXEMPT = {"CHANGELOG.md", "tests/repository/words.toml", "tests/repository/test_words.py"}
OPENINGS = re.compile(r"(What|Whether|How|Who|Whoever|That|Of)\b")
PERCENT = re.compile(r"\d %")


def files() -> list[Path]:
    """Every text file that people write here, as a path relative to the repository."""
    found = [p for p in ROOT.iterdir() if p.is_file()]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    relative = (
        p.relative_to(ROOT) for p in found if p.suffix in KINDS or p.name in {"Dockerfile", "Makefile"}
    )
    return sorted(
        p
        for p in relative
        if str(p) not in EXEMPT and "results" not in p.parts and "__pycache__" not in p.parts
    )


FILES = files()
PAGES = [p for p in FILES if p.suffix == ".md" and p.parts[0] in {"README.md", "docs"}]
PYTHON = [p for p in FILES if p.suffix == ".py"]


@cache
def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def places(pattern: re.Pattern[str], text: str) -> list[str]:
    """Each match with its line number."""
    return [f"line {text.count(chr(10), 0, m.start()) + 1}: {m.group()}" for m in pattern.finditer(text)]


def whole(words: list[str], flags: int = 0) -> re.Pattern[str]:
    ordered = "|".join(
        re.escape(word).replace(r"\ ", r"\s+") for word in sorted(words, key=len, reverse=True)
    )
    return re.compile(rf"(?<![\w<])(?:{ordered})(?![\w>])", flags)


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, also those below attributes."""
    for node in ast.walk(ast.parse(text_of(path))):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value


def defined_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each function, class and constant."""
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name) and target.id.isupper():
                yield node.lineno, target.id


def found(paths: list[Path], find: Callable[[Path], list[Any]]) -> dict[str, list[Any]]:
    """Return what is found, by path. One test for all files, because thousands of tests take a minute."""
    return {str(path): hits for path in paths if (hits := find(path))}


def test_there_are_files() -> None:
    assert len(PYTHON) > 500
    assert Path("api/web/static/app.js") in FILES
    assert Path("README.md") in FILES


def test_no_retired_word() -> None:
    words, identifiers = whole(RETIRED["words"], re.IGNORECASE), whole(RETIRED["identifiers"])
    assert found(FILES, lambda path: places(words, text_of(path)) + places(identifiers, text_of(path))) == {}


def test_no_word_that_the_documentation_avoids() -> None:
    words = whole(RETIRED["documentation"], re.IGNORECASE)
    assert found(PAGES, lambda path: places(words, text_of(path))) == {}


def test_british_spelling_in_sentences() -> None:
    """Names from libraries and from CSS keep their own spelling, so only documentation is read."""
    spelling = whole(list(RETIRED["spelling"]), re.IGNORECASE)

    def find(path: Path) -> list[str]:
        if path.suffix == ".py":
            lines = prose_of(path)
            return [f"line {line}: {m.group()}" for line, prose in lines for m in spelling.finditer(prose)]
        if path.suffix == ".md":
            text = re.sub(r"```.*?```|`[^`]*`|<[^>]*>", "", text_of(path), flags=re.S)
            return places(spelling, text)
        return []

    assert found(FILES, find) == {}


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    def find(path: Path) -> list[tuple[int, str]]:
        return [(line, prose[:40]) for line, prose in prose_of(path) if OPENINGS.match(prose.lstrip())]

    assert found(PYTHON, find) == {}


def test_names_are_terms() -> None:
    retired = set(RETIRED["definitions"])
    limits = re.compile(r"_?(MOST|LEAST|ENOUGH|LONGEST|LARGEST|FEW)(_|$)")

    def find(path: Path) -> list[tuple[int, str]]:
        return [(line, name) for line, name in defined_in(path) if name in retired or limits.match(name)]

    assert found(PYTHON, find) == {}


def test_a_percent_sign_stands_beside_its_number() -> None:
    """Comments, strings and Markdown; in Python a modulo of a number has no number before it."""
    paths = [path for path in FILES if path.suffix in {".py", ".md", ".j2"}]
    assert found(paths, lambda path: places(PERCENT, text_of(path))) == {}
