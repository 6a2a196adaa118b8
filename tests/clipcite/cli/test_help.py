"""`--help` of every command: complete lines on narrow and wide terminals."""

import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from clipcite.__main__ import app
from clipcite.cli.export import export
from clipcite.types.classify import Options
from clipcite.types.models import ExportFormat


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    with command.context_class(command) as context:
        for name in getattr(command, "list_commands", lambda context: [])(context):
            yield from commands(command.get_command(context, name), (*path, name))


COMMANDS = dict(commands(get_command(app)))


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_line_is_broken(path: tuple[str, ...], width: int) -> None:
    """No line is cut or too long, and no word is divided between two lines."""
    command = COMMANDS[path]
    name = " ".join(("clipcite", *path))
    with command.context_class(command, info_name=name, terminal_width=width) as context:
        output = command.get_help(context)
    lines = output.splitlines()
    assert [line for line in lines if len(line) > width or re.search(r"\w(-|\.\.\.|…)$", line)] == []
    for parameter in command.params:
        for word in (*parameter.opts, getattr(parameter, "envvar", None)):
            assert word is None or parameter.param_type_name == "argument" or word in output
    text = " ".join(output.split())
    for paragraph in filter(None, re.split(r"\n\s*\n", command.help or "")):
        assert " ".join(paragraph.split()) in text


def test_numbers_of_classify_have_the_range_of_the_api() -> None:
    fields = Options.model_json_schema()["properties"]
    ranges = {}
    for name in ("alpha", "top_k"):
        (number,) = (s for s in fields[name].get("anyOf", [fields[name]]) if s["type"] != "null")
        ranges[name] = number["minimum"], number.get("maximum")
    options = {option.name: (option.min, option.max) for option in COMMANDS["classify",].params}
    assert {name: options[name] for name in ranges} == ranges
    assert ranges["alpha"] == (0, 1)


def test_export_has_the_formats_of_the_api() -> None:
    assert get_args(get_type_hints(export)["format"]) == get_args(ExportFormat)


def test_without_the_server_its_commands_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcite.cli.operator.server_missing", lambda: "pip install it")
    for command in (["serve"], ["keys", "list"], ["webhooks", "secret"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2
        assert "needs the server, but only the client is installed. Run: pip install it" in done.stderr
    said = CliRunner().invoke(app, ["--help"])
    assert said.exit_code == 0
    assert "need the server: pip install it" in " ".join(said.output.split())
