"""The command `clipcite`."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.adapt import adapt
from clipcite.cli.admin import keys, webhooks
from clipcite.cli.backup import backup, restore, verify
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
    help="Few-shot adaptation of CLIP, self-hosted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

database = typer.Typer(help="Manage the database schema.", no_args_is_help=True)
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
app.command()(backup)
app.command()(restore)
app.command()(verify)
app.command()(sweep)
app.add_typer(storage, name="storage")

Host = Annotated[
    str, typer.Option(envvar="CLIPCITE_HOST", help="Listen address. Outside loopback an API key is required.")
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of the database, images and models (default: CLIPCITE_DATA).")
]


@app.callback()
def root() -> None:
    """Few-shot adaptation of CLIP, self-hosted."""


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="CLIPCITE_PORT", min=0, max=65535, help="Port; 0 selects a free port.")
    ] = 8000,
    data: Data = None,
) -> None:
    """Run the whole service on this machine: API, worker and dispatcher.

    Ctrl-C stops the service. Queued and running jobs continue after the next start.
    """
    raise typer.Exit(serve_until_stopped(host, port, data))


@app.command()
def api(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="CLIPCITE_PORT", min=1, max=65535, help="Port.")] = 8000,
    data: Data = None,
) -> None:
    """Run an API process. Any number may share one database and one blob storage."""
    become(API, environment(data, host=host, port=port))


@app.command()
def worker(
    device: Annotated[
        str | None, typer.Option(help="Device: auto, cpu, cuda or cuda:N (default: CLIPCITE_DEVICE).")
    ] = None,
    data: Data = None,
) -> None:
    """Run a worker, which trains one job at a time. Start one worker per GPU."""
    become(WORKER, environment(data, device=device))


@app.command()
def dispatcher(data: Data = None) -> None:
    """Run a dispatcher, which sends jobs to workers and delivers webhooks.

    One dispatcher is enough. A second one takes over if the first fails.
    """
    become(DISPATCHER, environment(data))


@app.command("server-path")
def show_server_path() -> None:
    """Print the folder of the server modules, for use of the method as a library via PYTHONPATH."""
    print(server_path())


@app.command()
def liveness(
    file: Annotated[Path, typer.Argument(help="Liveness file of the process (CLIPCITE_LIVENESS_FILE).")],
) -> None:
    """Check a liveness file: status 0 if it was touched in the last two minutes, else 1."""
    raise typer.Exit(subprocess.call(command(LIVENESS, str(file)), env=environment()))


@database.command()
def upgrade() -> None:
    """Migrate the database (CLIPCITE_DATABASE_URL, or that in the data folder) to this version."""
    need_server()
    raise typer.Exit(subprocess.call(command(MIGRATE), env=environment()))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
