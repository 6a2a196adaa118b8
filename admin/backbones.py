"""`clipcite backbones`: install, check and remove the pre-trained models of this machine's service."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from admin.installation import AsJson, errors_in_words, settings_of
from clipcite.cli.render.tables import print_table
from core.clip.config import RECIPES, resolve_config
from core.clip.models import hub, installed
from core.errors import ClipCiteError

backbones = typer.Typer(help="Manage pre-trained models.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Backbone, such as ViT-B-16/openai.")]
PROGRESS_SECONDS = 0.3
TYPICAL_CLASSES = 10
SMALL_MICRO_BATCH = 4


@contextmanager
def _cache() -> Iterator[Path]:
    """Yield the folder of the backbones. Errors are shown in words, and open_clip's warnings are not.

    open_clip warns that networks without weights are random.
    """
    logging.disable(logging.WARNING)
    try:
        with errors_in_words():
            yield settings_of().cache
    finally:
        logging.disable(logging.NOTSET)


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
    import open_clip

    with _cache() as cache:
        here = {backbone.name: backbone.bytes for backbone in installed.list_installed(cache)}
        known = [f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()]
        names = [name for name in known if _wanted(name, pattern) and name not in here]
        rows = [_describe(name, here.get(name)) for name in [*here, *names]]
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
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    done = threading.Event()
    with _cache() as cache, Progress(*columns, console=Console(stderr=True), disable=as_json) as bar:
        task = bar.add_task(escape(name), total=None)

        def report() -> None:
            while not done.wait(PROGRESS_SECONDS):
                progress = installed.progress(name, cache)
                if progress is not None:
                    bar.update(task, completed=progress.done_bytes, total=progress.total_bytes or None)

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            installed.install(name, cache)
        finally:
            done.set()
            reporter.join()
        pulled = _check(name, cache)
    _show(pulled, as_json)


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
    with _cache() as cache:
        imported = _check(installed.import_folder(folder.absolute(), cache, name).name, cache)
    _show(imported, as_json)


@backbones.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Backbones (default: all installed).")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare installed files with their SHA-256.

    Exits with status 1 if one differs.
    """
    with _cache() as cache:
        chosen = names or [backbone.name for backbone in installed.list_installed(cache)]
        checked = [{"name": each, "problems": installed.verify(each, cache)} for each in chosen]
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
    with _cache() as cache:
        freed = installed.remove(name, cache)
    if as_json:
        print(json.dumps({"name": name, "freed_bytes": freed}))
    else:
        print(f"Removed {name}, which frees {_size(freed)}.")


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


def _check(name: str, cache: Path) -> dict[str, Any]:
    """Load an installed backbone. Its tensors must fit the architecture, and its tokenizer must work.

    A backbone that cannot be loaded is removed again.
    """
    from core.clip.models.backbone import load_backbone

    try:
        backbone = load_backbone(name, cache=cache)
        backbone.tokenize(["a photo of a dog"])
    except ClipCiteError:
        installed.remove(name, cache)
        raise
    found = installed.read(name, cache)
    assert found is not None
    return {
        "name": name,
        "source": found.source,
        "bytes": found.bytes,
        "sha256": backbone.sha256,
        "folder": str(installed.folder_of(name, cache)),
    }


def _wanted(name: str, pattern: str | None) -> bool:
    """Return whether a name matches the pattern. Without one, backbones with a recipe of their own do."""
    if pattern is not None:
        return fnmatchcase(name.lower(), pattern.lower())
    return any(fnmatchcase(name, recipe) for recipe, _ in RECIPES if recipe != "*")


def _describe(name: str, installed_bytes: int | None) -> dict[str, Any]:
    """Return the size of a backbone on disk and in memory; None where only the hub knows the shape."""
    from core.clip.models.sizes import size_of

    config = resolve_config(backbone=name)
    row: dict[str, Any] = {
        "name": name,
        "installed": installed_bytes is not None,
        "bytes": installed_bytes,
        "parameters": None,
        "serving_bytes": None,
        "training_bytes": None,
        "small_training_bytes": None,
    }
    size = None if name.startswith(hub.HUB) else size_of(name.partition("/")[0])
    if size is not None:
        images = min(config.batch_size, config.micro_batch_size or config.batch_size)
        row |= {
            "bytes": installed_bytes or size.file_bytes,
            "parameters": size.parameters,
            "serving_bytes": size.serving_bytes,
            "training_bytes": size.training_bytes(images, TYPICAL_CLASSES),
            "small_training_bytes": size.training_bytes(SMALL_MICRO_BATCH, TYPICAL_CLASSES),
        }
    return row
