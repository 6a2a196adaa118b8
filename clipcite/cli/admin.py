"""`clipcite keys` and `clipcite audit`: administration of the service on this machine."""

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from clipcite.cli.processes import KEYTOOL, run_json
from clipcite.cli.render.tables import print_table
from clipcite.client.address import local_token

keys = typer.Typer(help="API keys of this machine's service.", no_args_is_help=True)
Data = Annotated[Path | None, typer.Option(help="Data folder of `clipcite serve` (default: CLIPCITE_DATA).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Scope(StrEnum):
    """Scope of an API key."""

    CLASSIFY = "classify"
    ADAPT = "adapt"
    ADMIN = "admin"


@keys.command()
def create(
    owner: Annotated[
        str, typer.Option(help="Owner of the jobs and models that the key gives access to.")
    ] = "default",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="Scope; repeatable. `admin` allows everything (default: classify, adapt)."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Description, shown in the list.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until the key expires (default: never).")
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Create an API key.

    The key is shown only once. The database stores its hash. The first key turns authentication on.
    """
    options = [f"--owner={owner}"]
    options += [f"--scope={each.value}" for each in scope or ()]
    options += [] if name is None else [f"--name={name}"]
    options += [] if days is None else [f"--days={days}"]
    made = run_json(KEYTOOL, ["create", *options], data)
    if as_json:
        print(json.dumps(made))
        return
    expiry = f"expires {_time(made['expires_at'])} UTC" if made["expires_at"] else "no expiry"
    lines = [
        f"Created {made['id']} for owner [bold]{made['owner']}[/] ({', '.join(made['scopes'])}; {expiry}). "
        "Copy the key now; it is shown only once."
    ]
    if made["first"]:
        lines.append(
            "[bold]Authentication is now required on every request.[/] The token and its link have ended. "
            "Use the key with --key or CLIPCITE_API_KEY."
        )
    if made["hidden_models"]:
        number = made["hidden_models"]
        some = "1 model of owner default isn't" if number == 1 else f"{number} models of owner default aren't"
        lines.append(
            f"[yellow]{some} visible with this key.[/] Use --owner default, or give this owner the models: "
            f"`clipcite keys adopt --from default --to {made['owner']}`."
        )
    for line in lines:
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
    print(made["key"])


@keys.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only keys of this owner.")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List API keys (secrets are never shown)."""
    rows = run_json(KEYTOOL, ["list", *([] if owner is None else [f"--owner={owner}"])], data)
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        Console(stderr=True).print(
            "No keys. Only this machine can connect, with its token (`clipcite keys token`)."
        )
        return
    columns = [Column(name, no_wrap=True) for name in ("ID", "Owner", "Name", "Scopes", "Status")]
    table = Table(*columns, box=None, padding=(0, 2, 1, 0), header_style="dim")
    for key in rows:
        until, used = _time(key["expires_at"])[:10], _time(key["last_used_at"])
        status = key["state"] + (f"\nuntil {until}" if until else "") + (f"\nused {used}" if used else "")
        # The prefix identifies a key. `revoke` takes it, too.
        table.add_row(
            f"{key['prefix']}…", key["owner"], escape(key["name"] or ""), "\n".join(key["scopes"]), status
        )
    print_table(Console(), table)


@keys.command()
def rotate(
    id: Annotated[str, typer.Argument(metavar="ID", help="ID of the key, from `clipcite keys list`.")],
    overlap: Annotated[
        float, typer.Option(min=0, max=8760, help="Time in which both keys are valid (hours).")
    ] = 24,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Replace a key by a new one.

    The new key has the same owner, name, scopes and lifetime.
    """
    made = run_json(KEYTOOL, ["rotate", f"--overlap={overlap}", "--", id], data)
    if as_json:
        print(json.dumps(made))
        return
    Console(stderr=True).print(
        f"Created key {made['id']} for owner [bold]{made['owner']}[/]. The old key ends in {overlap:g} h. "
        "Copy the key now; it is shown only once.",
        highlight=False,
        soft_wrap=True,
    )
    print(made["key"])


@keys.command()
def adopt(
    source: Annotated[str, typer.Option("--from", help="Present owner.")] = "default",
    to: Annotated[
        str | None, typer.Option(help="New owner (default: the only other owner with a key).")
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Give an owner's jobs and models to another."""
    found = run_json(KEYTOOL, ["adopt", f"--from={source}", *([] if to is None else [f"--to={to}"])], data)
    if as_json:
        print(json.dumps(found))
        return
    print(
        f"{found['target']} now owns {found['jobs']} jobs, {found['models']} models and {found['aliases']} "
        f"aliases of {found['source']}."
    )


@keys.command()
def token(data: Data = None) -> None:
    """Print the token of a service without keys.

    The token gives full access. It ends with the first key.
    """
    found = local_token(data)
    if found is None:
        typer.echo(
            "There is no token. `clipcite serve` creates one, unless the service has keys or runs with "
            "--no-token. For another data folder, use --data.",
            err=True,
        )
        raise typer.Exit(1)
    print(found)


@keys.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="ID of the key, from `clipcite keys list`.")],
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Revoke a key at once."""
    revoked = run_json(KEYTOOL, ["revoke", "--", id], data)
    print(json.dumps(revoked) if as_json else f"Revoked {revoked['id']} of {revoked['owner']}.")


def _time(time: str | None) -> str:
    """Format a time of the database, in UTC."""
    return "" if time is None else f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}"


def audit(
    owner: Annotated[str | None, typer.Option(help="Only changes to objects of this owner.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only this action (`job.delete`), or a kind of object (`job`).")
    ] = None,
    object: Annotated[str | None, typer.Option(help="Only changes to this id, name or alias.")] = None,
    key: Annotated[str | None, typer.Option(help="Only changes by this key (ID of `clipcite keys`).")] = None,
    request: Annotated[str | None, typer.Option(help="Only changes of this request (X-Request-ID).")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Only the last DAYS days.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries, the newest ones.")] = 100,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List the changes: who, when, from where.

    Entries are kept for CLIPCITE_KEEP_AUDIT_DAYS.
    """
    filters = {"owner": owner, "action": action, "object": object, "key": key, "request": request}
    options = [f"--{name}={value}" for name, value in filters.items() if value is not None]
    options += [f"--limit={limit}"] + ([] if days is None else [f"--days={days}"])
    rows = run_json(KEYTOOL, ["audit", *options], data)
    if as_json:
        print(json.dumps(rows))
        return
    names = ("Time", "Owner", "Key", "Action", "Object", "From")
    columns = [Column(name, no_wrap=True) for name in names]
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for row in rows:
        done = row["action"] + ("" if row["outcome"] == "done" else f" ({row['outcome']})")
        source = row["address"] or "this machine"
        table.add_row(_time(row["at"]), row["owner"], row["key_id"], done, escape(row["object"]), source)
    print_table(Console(), table)
