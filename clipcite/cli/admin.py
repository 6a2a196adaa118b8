"""`clipcite keys`: the operator's tool for the database of this machine's service."""

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from clipcite.cli.processes import KEYTOOL, ask

keys = typer.Typer(
    help="API keys, in the database of CLIPCITE_DATABASE_URL or of the data folder.", no_args_is_help=True
)
Data = Annotated[Path | None, typer.Option(help="Data folder, as given to `clipcite serve`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Scope(StrEnum):
    """What a key may do."""

    CLASSIFY = "classify"
    ADAPT = "adapt"
    ADMIN = "admin"


@keys.command()
def create(
    owner: Annotated[str, typer.Option(help="Whose jobs and models it opens; made if new.")] = "default",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="May be repeated; `admin` is everything. Default: classify and adapt."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="For the list: whose it is, or what for.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Good for so many days.")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Make a key. It is shown this once: the database keeps only its hash."""
    options = [f"--owner={owner}"]
    options += [f"--scope={one.value}" for one in scope or ()]
    options += [] if name is None else [f"--name={name}"]
    options += [] if days is None else [f"--days={days}"]
    made = ask(KEYTOOL, ["create", *options], data)
    if as_json:
        print(json.dumps(made))
        return
    until = f"until {_time(made['expires_at'])} UTC" if made["expires_at"] else "without end"
    Console(stderr=True).print(
        f"Key {made['id']} of [bold]{made['owner']}[/], for {', '.join(made['scopes'])}, {until}. It is "
        "shown this once; keep it. From now on every request must bring a key: Authorization: Bearer <key>",
        highlight=False,
        soft_wrap=True,
    )
    print(made["key"])


@keys.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Show the keys, without what opens."""
    found = ask(KEYTOOL, ["list", *([] if owner is None else [f"--owner={owner}"])], data)
    if as_json:
        print(json.dumps(found))
        return
    columns = [Column(name, no_wrap=name != "owner, name") for name in ("key", "owner, name", "may", "is")]
    table = Table(*columns, box=None, padding=(0, 2, 1, 0))
    for key in found:
        until, used = _time(key["expires_at"])[:10], _time(key["last_used_at"])
        table.add_row(
            f"{key['id']}\n{key['prefix']}…",
            escape("\n".join(filter(None, [key["owner"], key["name"]]))),
            "\n".join(key["scopes"]),
            key["state"] + (f"\nuntil {until}" if until else "") + (f"\nused {used}" if used else ""),
        )
    Console().print(table)


@keys.command()
def revoke(
    id: Annotated[
        str, typer.Argument(help="The key's id or its first characters, from `clipcite keys list`.")
    ],
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Let a key open nothing any more, from the next request on."""
    gone = ask(KEYTOOL, ["revoke", "--", id], data)
    print(json.dumps(gone) if as_json else f"{gone['id']} of {gone['owner']} is revoked.")


def _time(time: str | None) -> str:
    """In UTC, as the database has it."""
    return "" if time is None else f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}"


webhooks = typer.Typer(help="Webhooks: the secret that they are signed with.", no_args_is_help=True)


@webhooks.callback()
def root() -> None:
    """Webhooks: the secret that they are signed with."""


@webhooks.command()
def secret(
    owner: Annotated[str, typer.Option(help="Whose jobs tell of their end; made if new.")] = "default",
    rotate: Annotated[
        bool,
        typer.Option("--rotate", help="Make a new one. For 24 hours the old one signs beside it."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: Annotated[Path | None, typer.Option(help="Data folder, as given to `clipcite serve`.")] = None,
) -> None:
    """Show the owner's secret, `whsec_…`; it is made when it is first needed."""
    found = ask(KEYTOOL, ["webhook-secret", f"--owner={owner}", *(["--rotate"] if rotate else [])], data)
    print(json.dumps(found) if as_json else found["secret"])
