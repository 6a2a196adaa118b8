"""The remedies that the service names in errors exist, as requests, commands and calls."""

import ast
import inspect
import shlex
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.main import get_command

from clipcite.__main__ import app
from clipcite.client._sync.client import Client
from clipcite.client._sync.models import Model
from clipcite.errors import ADVICE, error_of
from clipcite.types.problems import ProblemAction
from tests.repository.openapi import document

ROOT = Path(__file__).parents[2]
PAGE_ONLY = "POST /backbones/{name}/pull"
"""Request of the page, which the client never sends."""


def named_actions() -> dict[str, ProblemAction]:
    """Return the actions in the code of the service with example values, by their keys in ADVICE."""
    found = {}
    modules = [path for folder in ("api", "core", "worker") for path in sorted((ROOT / folder).rglob("*.py"))]
    for node in (node for path in modules for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ProblemAction.of":
            operation = ast.literal_eval(node.args[0])
            values = {
                k.arg: str(k.value.value) if isinstance(k.value, ast.Constant) else f"a {k.arg}"
                for k in node.keywords
                if k.arg is not None
            }
            others = [name for name in values if f"{{{name}}}" not in operation]
            found["?".join([operation, *others])] = ProblemAction.of(operation, **values)
    return found


ACTIONS = named_actions()


def advice(name: str, caller: Literal["commands", "python"]) -> str:
    """Return the command or the call in place of an action."""
    action = ACTIONS[name]
    text = error_of(409, {}, {"detail": str(action), "actions": [action.model_dump()]}).text(caller)
    assert text[0] == text[-1] == "`"
    return text[1:-1]


def test_the_advice_is_complete() -> None:
    assert len(ACTIONS) > 15
    assert ACTIONS.keys() - {PAGE_ONLY} == ADVICE.keys()


def test_each_action_is_an_operation_of_the_service() -> None:
    paths, schemas = document()["paths"], document()["components"]["schemas"]
    for action in ACTIONS.values():
        method, path = action.operation.split(" ")
        operation = paths[path][method.lower()]
        known = {parameter["name"] for parameter in operation.get("parameters", [])}
        if method == "PATCH":
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            known |= schemas[body["$ref"].rpartition("/")[2]]["properties"].keys()
        assert action.parameters.keys() <= known, action


@pytest.mark.parametrize("name", [name for name in ACTIONS if name in ADVICE and ADVICE[name][0]])
def test_each_command_is_accepted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "FOLDER").mkdir()
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(advice(name, "commands"))
    assert program == "clipcite"
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("clipcite", words).close()


@pytest.mark.parametrize("name", [name for name in ACTIONS if name in ADVICE])
def test_each_call_is_accepted(name: str) -> None:
    call = ast.parse(advice(name, "python"), mode="eval").body
    assert isinstance(call, ast.Call)
    with Client("http://127.0.0.1:9") as client:
        function = eval(ast.unparse(call.func), {"client": client, "model": object.__new__(Model)})
    inspect.signature(function).bind(*call.args, **{str(k.arg): k.value for k in call.keywords})
