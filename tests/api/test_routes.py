"""Routes hold no service logic: each is a signature and one call."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

API = Path(__file__).parents[2] / "api"
MADE_LATER = {"adapt", "extend"}
"""`form_router` makes these two run in the threads for uploads."""
FILES = sorted(path.relative_to(API).as_posix() for path in API.rglob("routes.py"))


def routes(file: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of the file, without those that make a router."""
    for node in ast.parse((API / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.endswith("router"):
            yield node


def is_one_call(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A docstring aside; an answer may be made of the call's result."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    [statement] = body if len(body) == 1 else [None]
    if not isinstance(statement, ast.Return | ast.Expr):
        return False
    value = statement.value.value if isinstance(statement.value, ast.Await) else statement.value
    return isinstance(value, ast.Call)


@pytest.mark.parametrize("file", FILES)
def test_each_route_is_a_signature_and_one_call(file: str) -> None:
    assert [route.name for route in routes(file) if not is_one_call(route)] == []


@pytest.mark.parametrize("file", FILES)
def test_no_route_uses_the_threads_that_all_owners_share_in_order_of_arrival(file: str) -> None:
    """A plain function as a route would. `runs` of api/threads.py lets owners take turns."""
    plain = [
        route.name
        for route in routes(file)
        if isinstance(route, ast.FunctionDef)
        and not any(ast.unparse(decorator).endswith(".runs") for decorator in route.decorator_list)
        and route.name not in MADE_LATER
    ]
    assert plain == []
