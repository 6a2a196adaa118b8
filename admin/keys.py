"""`clipcite keys`: the API keys of the service on this machine.

The commands work on the database directly, because creating the first key must not need a key.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text
from sqlalchemy import func, select

from admin.installation import AsJson, Data, database_of, errors_in_words, missing_in, settings_of, shown_time
from clipcite.cli.connection import Yes, confirm, stderr, stdout
from clipcite.cli.render.tables import print_table, table_of
from clipcite.client import address
from clipcite.datasets.image import printable
from core.store.accounts import api_keys, local_token
from core.store.accounts.owners import DEFAULT_OWNER
from core.store.db import migrate
from core.store.db.tables import ApiKey, Model

keys = typer.Typer(help="API keys of this machine's service.", no_args_is_help=True)


@keys.command()
def create(
    owner: Annotated[
        str, typer.Option(help="Owner of the jobs and models that the key gives access to.")
    ] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="classify, adapt or admin, which allows all; repeatable (default: classify, adapt)."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Description, shown in the list.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until the key expires (default: never).")
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
    yes: Yes = False,
) -> None:
    """Create an API key.

    The key is shown only once. The database stores its hash. The first key turns authentication on.
    """
    settings = settings_of(data)
    if folder := missing_in(settings):  # beyond loopback, a key must exist before the first start
        with errors_in_words():
            migrate.upgrade(settings.sqlalchemy_url())
        note = f"Created a new installation in {folder}. If the service has another folder, give its --data."
        typer.echo(printable(note), err=True)
    lifetime = None if days is None else timedelta(days=days)
    ends_token = address.local_token(settings.data) is not None
    if ends_token:
        confirm(
            "After that, every request needs a key, and the page's link stops working. Create the key?",
            yes=yes,
        )
    with database_of(settings) as database, database.write() as session:
        first = not api_keys.any_made(session)
        default_models = select(func.count()).select_from(Model).where(Model.owner == DEFAULT_OWNER)
        hidden = 0 if owner == DEFAULT_OWNER else session.scalar(default_models) or 0
        new = api_keys.create(
            session,
            owner=owner,
            scopes=scope or ["classify", "adapt"],
            name=name,
            lifetime=lifetime,
        )
    local_token.discard(settings.data)
    if as_json:
        print(json.dumps({**_json(new.row), "key": new.key, "first": first, "hidden_models": hidden}))
        return
    row = new.row
    expiry = f"expires {shown_time(row.expires_at)} UTC" if row.expires_at else "no expiry"
    lines = [
        f"Created {row.id} for owner [bold]{row.owner}[/] ({', '.join(row.scopes)}; {expiry}). "
        "Copy the key now; it is shown only once."
    ]
    if first and settings.admin_key is None:
        lines.append(
            "[bold]Every request now needs a key.[/] Pass it with --key or CLIPCITE_API_KEY."
            + ends_token * " The token and its link no longer work."
        )
    if ends_token and (page := address.local_address(settings.data)):
        lines.append(f"The page is at {page} and asks for the key.")
    if hidden:
        some = "1 model of owner default is" if hidden == 1 else f"{hidden} models of owner default are"
        lines.append(
            f"[yellow]{some} not visible with this key.[/] A key of that owner shows them: "
            "`clipcite keys create --owner default`."
        )
    for line in lines:
        stderr().print(line, soft_wrap=True)
    print(new.key)


@keys.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only keys of this owner.")] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """List API keys (secrets are never shown)."""
    with database_of(settings_of(data)) as database, database.read() as session:
        rows = api_keys.list_all(session, owner)
    if as_json:
        print(json.dumps([_json(row) for row in rows]))
        return
    if not rows:
        typer.echo(
            "No keys. Only this machine can connect, with its token (`clipcite keys token`).", err=True
        )
        return
    table = table_of("ID", "Owner", "Name", "Scopes", "Status")
    for row in rows:
        until, used = shown_time(row.expires_at)[:10], shown_time(row.last_used_at)
        status = _state(row) + (f"\nuntil {until}" if until else "") + (f"\nused {used}" if used else "")
        # A person may know the beginning of the key, and `revoke` accepts both.
        cells = (f"{row.id}\n{row.prefix}…", row.owner, row.name or "")
        table.add_row(*(Text(printable(cell)) for cell in cells), "\n".join(row.scopes), status)
    print_table(stdout(), table)


@keys.command()
def token(data: Data = None) -> None:
    """Print the token of a service without keys.

    The token gives full access. It ends with the first key.
    """
    found = address.local_token(data)
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
    with database_of(settings_of(data)) as database, database.write() as session:
        row = api_keys.revoke(session, id)
    print(json.dumps(_json(row)) if as_json else f"Revoked {row.id} of {row.owner}.")


def _state(row: ApiKey) -> str:
    expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
    return "revoked" if row.revoked_at else "expired" if expired else "good"


def _json(row: ApiKey) -> dict[str, Any]:
    times = {name: getattr(row, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {
        "id": row.id,
        "prefix": row.prefix,
        "owner": row.owner,
        "name": row.name,
        "scopes": row.scopes,
        "state": _state(row),
        "created_by": row.created_by,
        **{name: at and at.isoformat(timespec="seconds") for name, at in times.items()},
    }
