"""`clipcite backup`, `clipcite restore` and `clipcite verify`."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from admin import snapshots
from admin.installation import AsJson, Data, database_of, errors_in_words, settings_of
from clipcite.datasets.image import printable
from core.scratch import sweep_scratch
from core.settings import Settings
from core.store.storage.blobs import Blobs

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

    The service may keep running. Each call adds a snapshot to the folder and copies only new files. The
    folder contains private images and webhook secrets: keep it as safe as the installation. Exits with status
    1 if a file is missing.
    """
    settings = settings_of(data)
    with database_of(settings) as database, snapshots.lock(folder):
        there = _backup(folder, settings)
        url, blobs = settings.sqlalchemy_url(), Blobs.of(settings)
        made = snapshots.create(url, database, blobs, there, report=_report)
        pruned = snapshots.prune(there, keep) if keep else []
    if as_json:
        print(json.dumps({**asdict(made), "pruned": pruned}))
    else:
        print(
            f"Snapshot {made.name}: {sum(made.rows.values()):,} rows and {made.blobs:,} files, "
            f"{made.blob_bytes / 1e6:,.1f} MB."
        )
        for old in pruned:
            print(f"Deleted snapshot {old}.")
        for key in made.missing:
            typer.echo(f"{printable(key)}: missing in the storage", err=True)
    if made.missing:
        raise typer.Exit(1)


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup.")],
    snapshot: Snapshot = None,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Restore a backup into an empty service.

    The installation may use SQLite or PostgreSQL, and a folder or a bucket. Stop the service first.
    Jobs that were running at the time of the backup are queued again.
    """
    _check_folder(folder)
    settings = settings_of(data)
    with errors_in_words(), snapshots.lock(folder, to_read=True):
        there = _backup(folder, settings)
        url, blobs = settings.sqlalchemy_url(), Blobs.of(settings)
        made = snapshots.restore(url, blobs, there, name=snapshot, report=_report)
    if as_json:
        print(json.dumps(asdict(made)))
        return
    print(f"Restored snapshot {made.snapshot}: {made.rows:,} rows and {made.blobs:,} files.")
    if made.requeued:
        print(f"Queued again: {printable(', '.join(made.requeued))}.")
    if made.keys:
        print(
            f"These API keys work again: {printable(', '.join(made.keys))}. If you revoked some after the "
            "backup, revoke them again: clipcite keys revoke KEY."
        )
    place = "" if data is None else f" --data {shlex.quote(str(data))}"
    print(f"Start the service: clipcite serve{place}")


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
        raise typer.BadParameter(
            "--snapshot needs the folder of a backup: clipcite verify FOLDER --snapshot NAME."
        )
    if folder is not None:
        _check_folder(folder)
    settings = settings_of(data)
    with database_of(settings, check=folder is None) as database:
        if folder is None:
            result = snapshots.verify_installation(database, Blobs.of(settings))
        else:
            result = snapshots.verify_backup(_backup(folder, settings), snapshot)
    if as_json:
        print(json.dumps(asdict(result)))
    else:
        for problem in result.problems:
            typer.echo(printable(problem), err=True)
        print(
            f"{result.rows:,} rows and {result.blobs:,} files verified: "
            f"{len(result.problems)} problems, {len(result.unowned)} folders without an owner."
        )
    if result.problems:
        raise typer.Exit(1)


def _backup(folder: Path, settings: Settings) -> snapshots.Backup:
    sweep_scratch(settings.scratch())  # files of killed backups
    return snapshots.Backup(folder, settings.scratch())


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise typer.BadParameter(
            f"There is no folder {folder}. `clipcite backup FOLDER` makes a backup there."
        )


def _report(line: str) -> None:
    typer.echo(line, err=True)
