"""`clipcite models`: adapted models, their names and aliases."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipcite.cli.connection import (
    AsJson,
    Key,
    Url,
    Yes,
    confirm,
    connected,
    print_deleted,
    print_json,
    stdout,
)
from clipcite.cli.references import find_model
from clipcite.cli.render.progress import upload_bar
from clipcite.cli.render.tables import (
    alias_table,
    model_facts,
    model_table,
    print_rows,
    print_table,
)
from clipcite.cli.render.verdict import not_in_use, verdict

if TYPE_CHECKING:
    from clipcite.client._sync.models import Model
    from clipcite.types.models import Alias

models = typer.Typer(help="Models, their names and aliases.", no_args_is_help=True)
Reference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model: id or its end, name (version in use), name@version or name@alias."
    ),
]
AliasName = Annotated[str, typer.Argument(metavar="NAME@ALIAS", help="Alias such as shoes@prod.")]


@models.command("list")
def list_models(
    name: Annotated[str | None, typer.Option(help="Only versions of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of results.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List models, newest first."""
    with connected(url, key) as client:
        shown = list(islice(client.models.list(name, page_size=min(limit, 100)), limit))
    print_rows(shown, model_table, as_json=as_json)


@models.command()
def show(model: Reference, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show the classes and the accuracy of a model."""
    with connected(url, key) as client:
        fetched = client.models.get(find_model(client, model))
    _print(fetched, as_json=as_json)
    if fetched.metrics is not None and not as_json:
        stdout().print(f"verdict  {verdict(fetched.metrics)}", soft_wrap=True)
    if fetched.name and fetched.not_promoted and not as_json:
        stdout().print(f"note     {not_in_use(fetched.id, fetched.not_promoted)}", soft_wrap=True)


@models.command()
def rename(
    model: Reference,
    name: Annotated[str, typer.Argument(help="Model name. The model becomes its newest version.")],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Rename a model."""
    if not name:
        raise typer.BadParameter("must not be empty.", param_hint="NAME")
    with connected(url, key) as client:
        renamed = client.models.rename(find_model(client, model), name)
    _print(renamed, as_json=as_json)


@models.command()
def use(model: Reference, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Let a name refer to this version.

    A version that is worse than the pre-trained model is in use only after this command.
    """
    with connected(url, key) as client:
        used = client.models.promote(find_model(client, model))
    _print(used, as_json=as_json)


@models.command()
def delete(
    model: Reference,
    force: Annotated[bool, typer.Option("--force", help="Delete aliases of the model, too.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Delete a model. In-flight requests finish."""
    with connected(url, key) as client:
        model = find_model(client, model)
        confirm(f"Delete the model {model}?", yes=yes)
        client.models.delete(model, force=force)
    print_deleted(model, as_json=as_json)


@models.command("import")
def import_model(
    archive: Annotated[
        Path,
        typer.Argument(help="Zip of `clipcite export`, or an open_clip folder, zipped or not.", exists=True),
    ],
    name: Annotated[
        str | None, typer.Option(help="Model name. The model becomes its newest version.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone of the model (default: from the archive).")
    ] = None,
    class_name: Annotated[
        list[str] | None,
        typer.Option("--class", help="Trained class; repeatable (default: from the archive)."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Strength: 0 pre-trained model, 1 fully trained (default: from the archive).",
        ),
    ] = None,
    delta_format: Annotated[
        str | None, typer.Option(help="Storage of an open_clip folder: full or 4bit (default: full).")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Import a model.

    The archive comes from `clipcite export`, or holds a model that was adapted elsewhere.
    """
    with connected(url, key) as client, upload_bar() as on_upload:
        imported = client.models.import_model(
            archive,
            name=name,
            backbone=backbone,
            classes=class_name,
            alpha=alpha,
            delta_format=delta_format,
            on_upload=on_upload,
        )
    _print(imported, as_json=as_json)


@models.command()
def aliases(
    name: Annotated[str, typer.Argument(help="Name of models.")],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the aliases of a name."""
    with connected(url, key) as client:
        listed = client.aliases.list(name)
    if as_json:
        print_json([alias.raw for alias in listed])
    else:
        print_table(stdout(), alias_table(listed))


@models.command()
def promote(
    alias: AliasName,
    model: Reference,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Point an alias at a model.

    The change is atomic. A new alias is created.
    """
    name, tag = _parts(alias)
    with connected(url, key) as client:
        moved = client.aliases.promote(name, tag, find_model(client, model))
    _print_alias(moved, as_json=as_json)


@models.command()
def rollback(alias: AliasName, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Undo the last promotion.

    A second rollback undoes the one before.
    """
    name, tag = _parts(alias)
    with connected(url, key) as client:
        moved = client.aliases.rollback(name, tag)
    _print_alias(moved, as_json=as_json)


@models.command()
def unalias(alias: AliasName, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Delete an alias and its history.

    The models remain.
    """
    name, tag = _parts(alias)
    with connected(url, key) as client:
        client.aliases.delete(name, tag)
    print_deleted(alias, as_json=as_json)


def _parts(alias: str) -> tuple[str, str]:
    name, at, tag = alias.rpartition("@")
    if not (name and at and tag):
        raise typer.BadParameter(
            "must have the form name@alias, such as shoes@prod.", param_hint="NAME@ALIAS"
        )
    return name, tag


def _print(model: Model, *, as_json: bool) -> None:
    if as_json:
        print_json(model.raw)
    else:
        print_table(stdout(), model_facts(model))


def _print_alias(alias: Alias, *, as_json: bool) -> None:
    if as_json:
        print_json(alias.raw)
    else:
        stdout().print(f"{alias.reference} is {alias.name}@{alias.version}, {alias.model}", markup=False)
