"""`clipcite backbones`: install, check and remove the pre-trained models of this machine's service."""

import json
import logging
import time
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

from admin.installation import AsJson, database_of, errors_in_words, missing_in, settings_of
from clipcite.cli.render.tables import print_table
from core.clip.config import STARTER, resolve_config
from core.clip.models import backbones as installed
from core.clip.models.sources import find_source
from core.store import backbones as store

backbones = typer.Typer(help="Manage pre-trained models.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Backbone, such as ViT-B-16/openai.")]
PROGRESS_SECONDS = 0.3
COLUMNS = """disk: size of the files.
serving: memory of a service that classifies with the backbone and one model trained from it (estimate).
training: memory of a training with 10 classes (estimate). – means unknown."""


@contextmanager
def _cache() -> Iterator[Path]:
    """Yield the folder of the backbones. Print expected errors, and hide open_clip's warnings.

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
    pattern: Annotated[str | None, typer.Argument(help="Pattern such as 'ViT-L*'.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all models of open_clip.")] = False,
    as_json: AsJson = False,
) -> None:
    """List pre-trained models and their sizes.

    Without a pattern, list the recommended and the installed models.
    """
    import open_clip

    from core.clip.models.recommend import CURATED, recommend, this_machine

    with _cache() as cache:
        recommended, reason = recommend(this_machine(settings_of().device, cache), cache)
        here = {STARTER: _starter_bytes(cache)}
        here |= {backbone.name: backbone.bytes for backbone in installed.list_installed(cache)}
        known = [each.name for each in CURATED]
        if every or pattern is not None:
            known = [f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()]
        wanted = [name for name in known if fnmatchcase(name.lower(), (pattern or "*").lower())]
        licences = {each.name: each.license for each in CURATED}
        rows = [
            _describe(name, name in here, here.get(name), name == recommended, licences.get(name))
            for name in dict.fromkeys([*here, *wanted])
        ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("backbone", "", "licence", "disk", "serving", "training"):
        table.add_column(name, justify="right" if name in ("disk", "serving", "training") else "left")
    for row in rows:
        mark = "installed" if row["installed"] else "recommended" if row["recommended"] else ""
        sizes = (_size(row[f"{of}bytes"]) for of in ("", "serving_", "training_"))
        table.add_row(escape(row["name"]), mark, row["license"] or "", *sizes)
    print_table(Console(), table)
    print(COLUMNS)
    print(reason)


@backbones.command()
def use(name: Name, as_json: AsJson = False) -> None:
    """Download a backbone for new trainings.

    A running service loads it without a restart.
    """
    settings = settings_of()
    if store.is_fixed(settings):
        typer.echo(store.fixed(settings).detail, err=True)
        raise typer.Exit(1)
    pulled = {"name": name} if name == STARTER else _pull(name, as_json)
    with database_of(settings) as database, database.write() as session:
        store.set_default(session, settings, name)
    print(json.dumps(pulled) if as_json else f"New trainings use {name}.")


@backbones.command()
def pull(name: Name, as_json: AsJson = False) -> None:
    """Download a backbone.

    Its files are checked and loaded. A damaged backbone is downloaded again. HF_ENDPOINT selects a mirror,
    HF_TOKEN gives access to gated repositories.
    """
    _show(_pull(name, as_json), as_json)


def _pull(name: str, as_json: bool) -> dict[str, Any]:
    """Install and check a backbone, with a progress bar. A wrong name is refused at once."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with _cache() as cache:
        find_source(name)
        process = installed.start(name, cache, settings_of().device)
        with Progress(*columns, console=Console(stderr=True), disable=as_json) as bar:
            task = bar.add_task(escape(name), total=None)
            while process.poll() is None:
                if (progress := installed.progress(name, cache)) is not None:
                    bar.update(task, completed=progress.done_bytes, total=progress.total_bytes or None)
                time.sleep(PROGRESS_SECONDS)
        described: dict[str, Any] = json.loads(installed.finish(process))
        return described


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

    This needs no network.
    """
    from core.clip.models.backbone import check_installed

    with _cache() as cache:
        imported = check_installed(installed.import_folder(folder.absolute(), cache, name).name, cache)
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
            typer.echo(f"To install it again: clipcite backbones pull {backbone['name']}", err=True)
    if damaged:
        raise typer.Exit(1)


@backbones.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Delete a backbone.

    It must not be the default, or in use by a model or an unfinished job of the service.
    """
    settings = settings_of()
    with _cache() as cache:
        if missing_in(settings) is None:
            with database_of(settings) as database, database.write() as session:
                store.release(session, settings, name)
                freed = installed.remove(name, cache)
        else:
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
    print(f"To use it in new trainings: clipcite backbones use {backbone['name']}")


def _starter_bytes(cache: Path) -> int | None:
    """Return the size of the starter, or None before its first use."""
    from core.clip.models.starter import FOLDER

    files = [path for path in (cache / FOLDER).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) or None


def _size(size: int | None) -> str:
    if size is None:
        return "–"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _describe(
    name: str, is_installed: bool, installed_bytes: int | None, recommended: bool, licence: str | None
) -> dict[str, Any]:
    """Return the size of a backbone on disk and in memory. Sizes are None if only the hub knows the shape."""
    from core.clip.models.sizes import find_size, training_memory

    size = find_size(name)
    return {
        "name": name,
        "installed": is_installed,
        "recommended": recommended,
        "license": licence,
        "bytes": installed_bytes or (size.file_bytes if size else None),
        "parameters": size.parameters if size else None,
        "serving_bytes": size.serving_bytes if size else None,
        "training_bytes": training_memory(resolve_config(backbone=name)),
    }
