"""`clipcite models`: adapted networks, their names and aliases."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.connection import AsJson, Key, Url, connected, note, out, print_json, say_gone
from clipcite.cli.render.progress import upload_bar
from clipcite.cli.render.tables import alias_table, metrics_table, model_facts, model_table, verdict
from clipcite.client._sync.models import Model
from clipcite.client.types import Alias

models = typer.Typer(help="Adapted models, their names and aliases.", no_args_is_help=True)
Reference = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Its id, its name (the latest version), name@version, name@alias."),
]
AliasName = Annotated[str, typer.Argument(metavar="NAME@ALIAS", help="Such as shoes@prod.")]
Expected = Annotated[
    str | None, typer.Option(help="What it is believed to point to; if that is wrong, nothing is changed.")
]


@models.command("list")
def list_models(
    name: Annotated[str | None, typer.Option(help="Only the versions of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Newest first."""
    with connected(url, key) as client:
        found = list(islice(client.models.list(name, page_size=min(limit, 100)), limit))
    if as_json:
        print_json([model.raw for model in found])
    else:
        console = out()
        console.print(model_table(found, console.width))


@models.command()
def show(model: Reference, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """What it was trained on, and how good it is."""
    with connected(url, key) as client:
        found = client.models.get(model)
    _print(found, as_json=as_json)
    if found.metrics is not None and not as_json:
        table = metrics_table(found.metrics)
        if table is not None:
            out().print(table)
        out().print(f"verdict  {verdict(found.metrics)}", soft_wrap=True)


@models.command()
def rename(
    model: Reference,
    name: Annotated[str, typer.Argument(help="It becomes the next version of this name.")],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Give it a name, or another one."""
    with connected(url, key) as client:
        renamed = client.models.rename(model, name)
    _print(renamed, as_json=as_json)


@models.command()
def delete(
    model: Reference,
    force: Annotated[
        bool, typer.Option("--force", help="Also when aliases point to it; they are removed.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Its weights too. What is being classified with it still finishes."""
    with connected(url, key) as client:
        client.models.delete(model, force=force)
    say_gone(model, as_json=as_json)


@models.command("import")
def import_model(
    archive: Annotated[
        Path,
        typer.Argument(
            help="A zip of `clipcite export`, or an open_clip folder, zipped or not.", exists=True
        ),
    ],
    name: Annotated[str | None, typer.Option(help="It is the next version of this name.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="What it was adapted from. [default: what it says]")
    ] = None,
    class_name: Annotated[
        list[str] | None,
        typer.Option("--class", help="Trained with; may be repeated. [default: what it says]"),
    ] = None,
    alpha: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    delta_format: Annotated[
        str | None, typer.Option(help="full, 4bit or 1bit: how an open_clip folder is kept.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Bring a model that was exported, or adapted elsewhere."""
    with connected(url, key) as client, upload_bar(note()) as sent:
        brought = client.models.import_model(
            archive,
            name=name,
            backbone=backbone,
            classes=class_name,
            alpha=alpha,
            delta_format=delta_format,
            on_upload=sent,
        )
    _print(brought, as_json=as_json)


@models.command()
def aliases(
    name: Annotated[str, typer.Argument(help="A name that models have.")],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Where the aliases of a name point, and when they were last moved."""
    with connected(url, key) as client:
        found = client.aliases.list(name)
    if as_json:
        print_json([alias.raw for alias in found])
    else:
        out().print(alias_table(found))


@models.command()
def promote(
    alias: AliasName,
    model: Reference,
    expected: Expected = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Point an alias to a model, from one request to the next; it is made if it is new."""
    name, tag = _parts(alias)
    with connected(url, key) as client:
        moved = client.aliases.promote(name, tag, model, expected=... if expected is None else expected)
    _print_alias(moved, as_json=as_json)


@models.command()
def rollback(
    alias: AliasName, expected: Expected = None, as_json: AsJson = False, url: Url = None, key: Key = None
) -> None:
    """Take the last promotion back; again, the one before that."""
    name, tag = _parts(alias)
    with connected(url, key) as client:
        moved = client.aliases.rollback(name, tag, expected=... if expected is None else expected)
    _print_alias(moved, as_json=as_json)


@models.command()
def unalias(alias: AliasName, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Remove an alias and its history. The models stay."""
    name, tag = _parts(alias)
    with connected(url, key) as client:
        client.aliases.delete(name, tag)
    say_gone(alias, as_json=as_json)


def _parts(alias: str) -> tuple[str, str]:
    name, at, tag = alias.rpartition("@")
    if not (name and at and tag):
        raise typer.BadParameter("is written name@alias, such as shoes@prod.", param_hint="NAME@ALIAS")
    return name, tag


def _print(model: Model, *, as_json: bool) -> None:
    if as_json:
        print_json(model.raw)
    else:
        out().print(model_facts(model))


def _print_alias(alias: Alias, *, as_json: bool) -> None:
    if as_json:
        print_json(alias.raw)
    else:
        out().print(f"{alias.reference} is {alias.name}@{alias.version}, {alias.model}", markup=False)
