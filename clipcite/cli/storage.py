"""`clipcite sweep` and `clipcite storage`: the operator's tools for stored files that nobody owns."""

import json
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.processes import GARBAGE, ask

storage = typer.Typer(help="The storage of images and models.", no_args_is_help=True)
Data = Annotated[Path | None, typer.Option(help="Data folder, as given to `clipcite serve`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@storage.callback()
def root() -> None:
    """The storage of images and models."""


@storage.command()
def adopt(as_json: AsJson = False, data: Data = None) -> None:
    """Make the storage this database's: from now on its sweep may delete what nobody owns there.

    Nothing is deleted before each folder was seen without an owner for CLIPCITE_SWEEP_DAYS.
    """
    adopted = ask(GARBAGE, ["adopt"], data)
    if as_json:
        print(json.dumps(adopted))
        return
    print(
        f"The storage is this database's now, which knows {adopted['owned']} of its {adopted['folders']} "
        "folders."
    )


def sweep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the folders: mark none, delete none.")
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Delete all that are due, however many: no share and no limit per hour."),
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Mark the stored folders that no job or model owns; delete those marked CLIPCITE_SWEEP_DAYS ago.

    The dispatcher does this every hour. Status 1 if something that is due was not deleted.
    """
    if dry_run and yes:
        raise typer.BadParameter("--dry-run and --yes exclude each other.")
    found = ask(GARBAGE, ["sweep", *(["--dry-run"] if dry_run else []), *(["--yes"] if yes else [])], data)
    if as_json:
        print(json.dumps(found))
    else:
        due, deleted = set(found["due"]), set(found["deleted"])
        for folder in found["orphans"]:
            print(f"{folder}  {'deleted' if folder in deleted else 'due' if folder in due else 'marked'}")
        print(
            f"Nobody owns {len(found['orphans'])} of {found['folders']} stored folders: {len(due)} due, "
            f"{len(deleted)} deleted."
        )
        if found["refusal"] is not None:
            typer.echo(found["refusal"], err=True)
    if found["refusal"] is not None:
        raise typer.Exit(1)
