"""The command `clipcite`."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.adapt import adapt
from clipcite.cli.admin import keys, webhooks
from clipcite.cli.classify import classify
from clipcite.cli.doctor import doctor
from clipcite.cli.export import export
from clipcite.cli.jobs import jobs
from clipcite.cli.models import models
from clipcite.cli.processes import (
    API,
    DISPATCHER,
    LIVENESS,
    MIGRATE,
    WORKER,
    become,
    command,
    environment,
    need_server,
    server_path,
)
from clipcite.cli.report import report
from clipcite.cli.server import serve_until_stopped
from clipcite.cli.storage import storage, sweep

app = typer.Typer(
    help="Few-shot adaptation of CLIP, on your own machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

database = typer.Typer(help="The database.", no_args_is_help=True)
app.command()(adapt)
app.command()(classify)
app.command()(report)
app.command()(export)
app.add_typer(jobs, name="jobs")
app.add_typer(models, name="models")
app.command()(doctor)
app.add_typer(database, name="db")
app.add_typer(keys, name="keys")
app.add_typer(webhooks, name="webhooks")
app.command()(sweep)
app.add_typer(storage, name="storage")

Host = Annotated[
    str, typer.Option(envvar="CLIPCITE_HOST", help="Address to listen on; off loopback a key is needed.")
]
Data = Annotated[Path | None, typer.Option(help="Folder of the database, the images and the models.")]


@app.callback()
def root() -> None:
    """Few-shot adaptation of CLIP, on your own machine."""


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="CLIPCITE_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    data: Data = None,
) -> None:
    """Run everything on this machine: HTTP service, worker and dispatcher. Needs no other server.

    Ctrl-C stops all of it. Jobs that are waiting or running go on at the next start.
    """
    raise typer.Exit(serve_until_stopped(host, port, data))


@app.command()
def api(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="CLIPCITE_PORT", min=1, max=65535, help="Port.")] = 8000,
    data: Data = None,
) -> None:
    """Run the HTTP service alone. Any number of them may share a database and the blobs."""
    become(API, environment(data, host=host, port=port))


@app.command()
def worker(
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N; default CLIPCITE_DEVICE.")
    ] = None,
    data: Data = None,
) -> None:
    """Run a worker alone: it trains one job at a time. Start one for each GPU."""
    become(WORKER, environment(data, device=device))


@app.command()
def dispatcher(data: Data = None) -> None:
    """Run the dispatcher alone: it sends jobs to the workers and webhooks to their receivers. One is
    enough; a second takes over when the first one dies."""
    become(DISPATCHER, environment(data))


@app.command("server-path")
def show_server_path() -> None:
    """Print the folder of the server's modules, for PYTHONPATH: the method as a library."""
    print(server_path())


@app.command()
def liveness(
    file: Annotated[Path, typer.Argument(help="File that the process touches: CLIPCITE_LIVENESS_FILE.")],
) -> None:
    """Exit with 0 if the file was touched within the last two minutes, else with 1."""
    raise typer.Exit(subprocess.call(command(LIVENESS, str(file)), env=environment()))


@database.command()
def upgrade() -> None:
    """Bring the tables of CLIPCITE_DATABASE_URL (or of the data folder) to this version."""
    need_server()
    raise typer.Exit(subprocess.call(command(MIGRATE), env=environment()))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
