"""The command `clipcite`."""

import io
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from clipcite.bridges import label_studio, mcp
from clipcite.cli.adapt import adapt
from clipcite.cli.classify import classify
from clipcite.cli.connection import Key, Url, connected, stdout
from clipcite.cli.doctor import doctor
from clipcite.cli.evaluate import evaluate
from clipcite.cli.export import export
from clipcite.cli.jobs import jobs
from clipcite.cli.models import models
from clipcite.cli.operator import Root
from clipcite.cli.piles import piles
from clipcite.cli.report import report
from clipcite.sorting.command import sort

# Plain help: rich cuts long option names on narrow terminals.
app = typer.Typer(cls=Root, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (adapt, classify, sort, report, evaluate, export, doctor):
    app.command()(command)
app.add_typer(jobs, name="jobs")
app.add_typer(models, name="models")
app.add_typer(piles, name="piles")
app.command("label-studio")(label_studio.command)
app.command("mcp")(mcp.command)


@app.command("open")
def open_page(url: Url = None, key: Key = None) -> None:
    """Open the web page of the service.

    The token of this machine's service goes with the link, so that the page asks for none.
    """
    from clipcite.client.address import local_token

    with connected(url, key) as client:
        client.ready()
        address = client.base_url.rstrip("/")
    token = None if url else local_token()
    link = f"{address}/#token={token}" if token else address
    stdout().print(link, markup=False, soft_wrap=True)
    typer.launch(link)


def _show_version(value: bool) -> None:
    if value:
        print(f"clipcite {version('clipcite')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Fine-tune CLIP on a few images per class."""


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name may have characters that its encoding lacks
    app()


if __name__ == "__main__":
    main()
