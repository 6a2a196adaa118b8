"""`clipcite piles`: images that wait for labels."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

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
from clipcite.cli.references import find_pile
from clipcite.cli.render.tables import pile_facts, pile_table, print_rows, print_table
from clipcite.cli.render.verdict import measured_words
from clipcite.datasets.image import printable

piles = typer.Typer(help="Images that wait for labels, and their labels.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="PILE", help="Id of the pile, its last characters, or its name.")]


@piles.command("list")
def list_piles(
    name: Annotated[str | None, typer.Option(help="Only piles with this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of results.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List piles, newest first."""
    with connected(url, key) as client:
        shown = list(islice(client.piles.list(name, page_size=min(limit, 100)), limit))
    print_rows(shown, pile_table, as_json=as_json)


@piles.command()
def show(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show a pile, and how good its sort is."""
    with connected(url, key) as client:
        pile = client.piles.get(find_pile(client, id))
        measured = None if as_json or not pile.counts.drawn else measured_words(pile.sort())
    if as_json:
        print_json(pile.raw)
        return
    print_table(stdout(), pile_facts(pile))
    if measured is not None:
        stdout().print(measured, markup=False, soft_wrap=True)


@piles.command()
def delete(id: Id, yes: Yes = False, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Delete a pile with its images and labels.

    Models that were trained with them stay.
    """
    with connected(url, key) as client:
        pile = client.piles.get(find_pile(client, id))
        labels = f"{pile.counts.images:,} images and {pile.counts.labelled:,} labels"
        confirm(printable(f"Delete the pile {pile.name} with {labels}?"), yes=yes)
        pile.delete()
    print_deleted(pile.id, as_json=as_json)
