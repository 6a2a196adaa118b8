"""`clipcite sweep` and `clipcite storage`: management of orphaned files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.processes import GARBAGE, run_json

storage = typer.Typer(help="Storage of images and models.", no_args_is_help=True)
Data = Annotated[Path | None, typer.Option(help="Data folder of `clipcite serve` (default: CLIPCITE_DATA).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@storage.callback()
def root() -> None:
    """Manage the storage of images and models."""


@storage.command()
def adopt(as_json: AsJson = False, data: Data = None) -> None:
    """Assign the storage to this database.

    Sweeps may then delete orphaned folders. A folder is deleted only after it has been orphaned for
    CLIPCITE_SWEEP_DAYS.
    """
    adopted = run_json(GARBAGE, ["adopt"], data)
    if as_json:
        print(json.dumps(adopted))
        return
    print(
        f"The storage now belongs to this database, which knows {adopted['owned']} of its "
        f"{adopted['folders']} folders."
    )


def sweep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the folders only; mark and delete nothing.")
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Delete every folder that is due, without the limits on share and number per hour."
        ),
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Mark and delete orphaned folders.

    Folders marked CLIPCITE_SWEEP_DAYS ago are deleted. An orphaned folder belongs to no job or model. The
    dispatcher sweeps every hour. Exits with status 1 if a
    folder that is due was not deleted.
    """
    if dry_run and yes:
        raise typer.BadParameter("--dry-run and --yes are mutually exclusive.")
    result = run_json(
        GARBAGE, ["sweep", *(["--dry-run"] if dry_run else []), *(["--yes"] if yes else [])], data
    )
    if as_json:
        print(json.dumps(result))
    else:
        due, deleted = set(result["due"]), set(result["deleted"])
        for folder in result["orphans"]:
            print(f"{folder}  {'deleted' if folder in deleted else 'due' if folder in due else 'marked'}")
        print(
            f"{len(result['orphans'])} of {result['folders']} stored folders are orphaned: {len(due)} due, "
            f"{len(deleted)} deleted."
        )
        if result["refusal"] is not None:
            typer.echo(result["refusal"], err=True)
    if result["refusal"] is not None:
        raise typer.Exit(1)
