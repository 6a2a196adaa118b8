"""`clipcite webhooks`: what the receivers of webhooks need to know."""

import json
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.processes import KEYTOOL, ask

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
