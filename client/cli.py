"""The command `clipcite`."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from client.keys import keys
from client.serve import serve_until_stopped

app = typer.Typer(
    help="Few-shot adaptation of CLIP, on your own machine.", no_args_is_help=True, add_completion=False
)

database = typer.Typer(help="The database.", no_args_is_help=True)
app.add_typer(database, name="db")
app.add_typer(keys, name="keys")


@app.callback()
def root() -> None:
    """Few-shot adaptation of CLIP, on your own machine."""


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(envvar="CLIPCITE_HOST", help="Address to listen on; off loopback a key is needed.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="CLIPCITE_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the database, the pictures and the models.")
    ] = None,
) -> None:
    """Run everything on this machine: HTTP service, worker and dispatcher. Needs no other server.

    Ctrl-C stops all of it. Jobs that are waiting or running go on at the next start.
    """
    raise typer.Exit(serve_until_stopped(host, port, data))


@database.command()
def upgrade() -> None:
    """Bring the tables of CLIPCITE_DATABASE_URL (or of the data folder) to this version."""
    raise typer.Exit(subprocess.call([sys.executable, "-m", "core.store.migrate"]))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
