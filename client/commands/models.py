"""`clipcite models`: adapted networks."""

from itertools import islice
from typing import Annotated

import typer

from client.commands.connection import AsJson, Key, Url, connected, out, print_json
from client.commands.show import metrics_table, model_facts, model_table, verdict

models = typer.Typer(help="Adapted models.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The model's id.")]


@models.command("list")
def list_models(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Newest first."""
    with connected(url, key) as client:
        found = list(islice(client.models(page_size=min(limit, 100)), limit))
    if as_json:
        print_json([model.raw for model in found])
    else:
        out().print(model_table(found))


@models.command()
def show(id: Id, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """What it was trained on, and how good it is."""
    with connected(url, key) as client:
        model = client.get_model(id)
    if as_json:
        print_json(model.raw)
        return
    out().print(model_facts(model))
    if model.metrics is not None:
        table = metrics_table(model.metrics)
        if table is not None:
            out().print(table)
        out().print(f"verdict  {verdict(model.metrics)}", soft_wrap=True)


@models.command()
def delete(id: Id, url: Url = None, key: Key = None) -> None:
    """Its weights too. What is being classified with it still finishes."""
    with connected(url, key) as client:
        client.delete_model(id)
    out().print(f"{id} is gone.", markup=False)
