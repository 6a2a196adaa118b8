"""Routes run in threads in which owners take turns."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

API = Path(__file__).parents[2] / "api"
FILES = sorted(path.relative_to(API).as_posix() for path in API.rglob("routes.py"))


def routes(file: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of the file with a decorator of a router."""
    for node in ast.parse((API / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            "router." in ast.unparse(decorator) for decorator in node.decorator_list
        ):
            yield node


@pytest.mark.parametrize("file", FILES)
def test_no_route_uses_the_threads_that_all_owners_share_in_order_of_arrival(file: str) -> None:
    """FastAPI runs a plain function in these threads. `runs` of api/threads.py lets owners take turns."""
    plain = [
        route.name
        for route in routes(file)
        if isinstance(route, ast.FunctionDef)
        and not any(ast.unparse(decorator).endswith(".runs") for decorator in route.decorator_list)
    ]
    assert plain == []
