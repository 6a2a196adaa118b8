"""The operator's commands, which the server's package `admin` has: found by name, imported when needed."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

OPERATOR_SECTION = "Commands for the service on this machine"
OTHER_WORDS = {
    "train": "adapt",
    "finetune": "adapt",
    "fine-tune": "adapt",
    "predict": "classify",
    "infer": "classify",
    "label": "sort",
    "organise": "sort",
    "organize": "sort",
    "group": "sort",
    "start": "serve",
    "run": "serve",
}
"""Commands by the words that other programs use for them."""


def server_missing() -> str | None:
    """Return the command that installs the server, or None if it is installed."""
    if all(importlib.util.find_spec(package) for package in ("fastapi", "celery", "sqlalchemy", "torch")):
        return None
    return "pip install '.[server,starter]' in a checkout of clipcite"


def server_path() -> Path:
    """Return the folder of `admin`, `api`, `core` and `worker`, in the installed package or the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_server"
    return installed if installed.is_dir() else package.parent


def server_module(name: str) -> Any:
    """Import a module of the server. The folder of the server comes first, before the working directory."""
    path = str(server_path())
    if sys.path[0] != path:
        sys.path.insert(0, path)
    return importlib.import_module(name)


MANAGEMENT = frozenset({"jobs", "models", "piles"})
"""Commands with a section of their own in the help."""
OPERATOR = {
    "serve": ("run", "serve"),
    "samples": ("samples", "samples"),
    "backbones": ("backbones", "backbones"),
    "keys": ("keys", "keys"),
    "backup": ("backup", "backup"),
    "restore": ("backup", "restore"),
    "verify": ("backup", "verify"),
    "webhooks": ("webhooks", "webhooks"),
    "db": ("run", "db"),
    "api": ("run", "api"),
    "worker": ("run", "worker"),
    "dispatcher": ("run", "dispatcher"),
    "server-path": ("run", "show_path"),
}
"""Module of `admin` and name in it, by name of the command."""


class Root(TyperGroup):
    """The command `clipcite`, with commands of the server. Without the server, they say how to install it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *OPERATOR]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in OPERATOR:
            return super().get_command(ctx, cmd_name)
        missing = server_missing()
        if missing is not None:
            typer.echo(
                f"This command needs the server, but only the client is installed. Run: {missing}", err=True
            )
            raise typer.Exit(2)
        module, attribute = OPERATOR[cmd_name]
        found = getattr(server_module(f"admin.{module}"), attribute)
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=cmd_name)
        else:
            app.command(cmd_name)(found)
        return typer.main.get_group(app).commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        own = super().list_commands(ctx)
        missing = server_missing()
        sections = {"Commands": [name for name in own if name not in MANAGEMENT]}
        sections["Jobs, models and piles"] = [name for name in own if name in MANAGEMENT]
        sections[OPERATOR_SECTION] = list(OPERATOR) if missing is None else []
        for title, names in sections.items():
            commands = {name: self.get_command(ctx, name) for name in names}
            limit = formatter.width - 6 - max(map(len, commands), default=0)
            rows = [(name, command.get_short_help_str(limit)) for name, command in commands.items()]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        if missing is not None:
            with formatter.section(OPERATOR_SECTION):
                formatter.write_text(f"{', '.join(OPERATOR)} need the server: {missing}")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            same = [OTHER_WORDS[args[0]]] if OTHER_WORDS.get(args[0]) in names else []
            near = same or get_close_matches(args[0], names) or list(self._below(ctx, args[0]))
            meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def _below(self, ctx: Any, name: str) -> Iterator[str]:
        """Yield the commands of this name in the client's groups, such as `models delete`."""
        for group in super().list_commands(ctx):
            if name in getattr(super().get_command(ctx, group), "commands", {}):
                yield f"{group} {name}"
