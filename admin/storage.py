"""`clipcite sweep` and `clipcite storage`: management of orphaned files."""

import json
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from admin.installation import AsJson, Data
from admin.processes import command, environment

storage = typer.Typer(help="Storage of images and models.", no_args_is_help=True)
GARBAGE = "worker.dispatcher.garbage"


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


def run_json(module: str, arguments: list[str], data: Path | None) -> Any:
    """Run a server module and return its JSON output. The module prints its own errors."""
    done = subprocess.run(
        command(module, *arguments), env=environment(data), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    return json.loads(done.stdout)
