"""`clipcite backbones`: install, check and remove the pre-trained models of this machine's service."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from clipcite.cli.processes import BACKBONES, command, environment, need_server, run_json
from clipcite.cli.render.tables import print_table

backbones = typer.Typer(help="Manage pre-trained models.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Backbone, such as ViT-B-16/openai.")]


@backbones.command("list")
def list_backbones(
    pattern: Annotated[
        str | None,
        typer.Argument(help="Pattern such as 'ViT-L*' or '*' (default: backbones with a recipe)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the known backbones.

    Without a pattern, these are the installed ones and those with a recipe.

    The memory for training is an estimate for 10 classes: with the backbone's recipe, and with 4 images at a
    time (micro_batch_size 4).
    """
    rows = run_json(BACKBONES, ["list", *([] if pattern is None else [pattern])], None)
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("backbone", "installed", "disk", "serving", "training", "training,\n4 images at a time"):
        table.add_column(name, justify="left" if name in ("backbone", "installed") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row["name"]),
            "yes" if row["installed"] else "",
            *(_size(row[f"{of}bytes"]) for of in ("", "serving_", "training_", "small_training_")),
        )
    print_table(Console(), table)


@backbones.command()
def pull(name: Name, as_json: AsJson = False) -> None:
    """Download a backbone.

    Its files are checked and loaded. An interrupted download continues where it stopped. HF_ENDPOINT selects
    a mirror, HF_TOKEN gives access to gated repositories.
    """
    need_server()
    done: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), disable=as_json) as bar,
        subprocess.Popen(
            command(BACKBONES, "pull", name), env=environment(), stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        task = bar.add_task(escape(name), total=None)
        assert process.stdout is not None
        for line in process.stdout:
            done = json.loads(line)
            if "total_bytes" in done:
                bar.update(task, completed=done["done_bytes"], total=done["total_bytes"] or None)
    if process.returncode:
        raise typer.Exit(process.returncode)
    _show(done, as_json)


@backbones.command("import")
def import_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of `clipcite backbones pull` on another machine, or of open_clip or transformers.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Backbone in the folder, such as ViT-B-16/openai (default: from backbone.json)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Install a backbone from a folder.

    No network is needed.
    """
    options = ["import", str(folder.absolute()), *([] if name is None else ["--name", name])]
    _show(run_json(BACKBONES, options, None), as_json)


@backbones.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Backbones (default: all installed).")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare installed files with their SHA-256.

    Exits with status 1 if one differs.
    """
    checked = run_json(BACKBONES, ["verify", *(names or [])], None)
    damaged = [backbone for backbone in checked if backbone["problems"]]
    if as_json:
        print(json.dumps(checked))
    else:
        for backbone in checked:
            print(f"{backbone['name']}: {' '.join(backbone['problems']) or 'ok'}")
        if not checked:
            print("No backbone is installed.")
        for backbone in damaged:
            typer.echo(
                f"To install it again: clipcite backbones remove {backbone['name']}, then clipcite backbones "
                f"pull {backbone['name']}",
                err=True,
            )
    if damaged:
        raise typer.Exit(1)


@backbones.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Delete a backbone.

    A partial download is deleted, too. Models that were adapted from the backbone need it again.
    """
    removed = run_json(BACKBONES, ["remove", name], None)
    if as_json:
        print(json.dumps(removed))
    else:
        print(f"Removed {name}, which frees {_size(removed['freed_bytes'])}.")


def _show(backbone: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(backbone))
        return
    print(f"Installed {backbone['name']} ({_size(backbone['bytes'])}) in {backbone['folder']}")
    print(f"To serve it: CLIPCITE_BACKBONE={backbone['name']} clipcite serve")


def _size(size: int | None) -> str:
    if size is None:
        return "unknown"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def preparing_line(preparing: Mapping[str, Any] | None) -> str | None:
    """Return a line about the field `preparing` of GET /readyz, except for loading, which takes seconds.

    The line changes with every tenth of a download.
    """
    if preparing is None or preparing["what"].startswith("Loading"):
        return None
    done, total = preparing.get("done_bytes"), preparing.get("total_bytes")
    if not total:
        return f"{preparing['what']} …"
    tenths = 10 * (done or 0) // total
    return f"{preparing['what']}: {10 * tenths}% of {_size(total)}"
