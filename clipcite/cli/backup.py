"""`clipcite backup`, `clipcite restore` and `clipcite verify`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.processes import BACKUP, run_json
from clipcite.cli.storage import AsJson, Data

Snapshot = Annotated[
    str | None, typer.Option("--snapshot", help="Name of the snapshot (default: the newest one).")
]


def backup(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup. It is created if necessary.")],
    keep: Annotated[
        int | None, typer.Option(min=1, help="Delete all but the newest KEEP snapshots afterwards.")
    ] = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Back up database, images and models.

    The service may run meanwhile. Each call adds a snapshot to the folder and copies only new files. The
    folder contains private images and webhook secrets; keep it as safe as the installation. Exits with status
    1 if a file is missing.
    """
    options = [] if keep is None else ["--keep", str(keep)]
    made = run_json(BACKUP, ["create", str(folder), *options], data)
    if as_json:
        print(json.dumps(made))
    else:
        print(
            f"Snapshot {made['snapshot']}: {sum(made['rows'].values()):,} rows and {made['blobs']:,} files, "
            f"{made['blob_bytes'] / 1e6:,.1f} MB."
        )
        for name in made["pruned"]:
            print(f"Deleted snapshot {name}.")
        for key in made["missing"]:
            typer.echo(f"{key}: missing in the storage", err=True)
    if made["missing"]:
        raise typer.Exit(1)


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup.")],
    snapshot: Snapshot = None,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="Give the copy a new id, because the original still runs.")
    ] = False,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Restore a backup, into an empty target.

    The target uses SQLite or PostgreSQL, and a folder or a bucket. Stop the service first.
    Jobs that ran at the time of the backup are queued again.
    """
    options = [*_snapshot(snapshot), *(["--as-new"] if as_new else [])]
    made = run_json(BACKUP, ["restore", str(folder), *options], data)
    if as_json:
        print(json.dumps(made))
        return
    print(f"Restored snapshot {made['snapshot']}: {made['rows']:,} rows and {made['blobs']:,} files.")
    if made["requeued"]:
        print(f"Queued again: {', '.join(made['requeued'])}.")
    if made["keys"]:
        print(
            f"These API keys work again: {', '.join(made['keys'])}. Revoke those that were revoked after "
            "the backup: clipcite keys revoke KEY."
        )
    print("Start the service: clipcite serve")


def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of a backup (default: the installation)."),
    ] = None,
    snapshot: Snapshot = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Check all images and models.

    Exits with status 1 if one is missing or differs from its hash.
    """
    if snapshot is not None and folder is None:
        raise typer.BadParameter("--snapshot needs the folder of a backup.")
    result = run_json(
        BACKUP, ["verify", *([] if folder is None else [str(folder)]), *_snapshot(snapshot)], data
    )
    if as_json:
        print(json.dumps(result))
    else:
        for problem in result["problems"]:
            typer.echo(problem, err=True)
        print(
            f"{result['rows']:,} rows and {result['blobs']:,} files verified: "
            f"{len(result['problems'])} problems, {len(result['unowned'])} folders without an owner."
        )
    if result["problems"]:
        raise typer.Exit(1)


def _snapshot(name: str | None) -> list[str]:
    return [] if name is None else ["--snapshot", name]
