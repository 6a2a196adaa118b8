"""The command `clipcite`."""

import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.adapt import adapt
from clipcite.cli.admin import audit, keys
from clipcite.cli.backbones import backbones
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
from clipcite.cli.samples import samples
from clipcite.cli.server import serve_until_stopped
from clipcite.cli.storage import storage, sweep
from clipcite.cli.webhooks import webhooks

# Plain help: rich cuts long option names on narrow terminals.
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
database = typer.Typer(no_args_is_help=True, help="Manage the database schema.")
app.command()(samples)
app.command()(adapt)
app.command()(classify)
app.command()(report)
app.command()(export)
app.add_typer(jobs, name="jobs")
app.add_typer(models, name="models")
app.command()(doctor)
app.add_typer(backbones, name="backbones")
app.add_typer(database, name="db")
app.add_typer(keys, name="keys")
app.add_typer(webhooks, name="webhooks")
app.command()(audit)
app.command()(backup)
app.command()(restore)
app.command()(verify)
app.command()(sweep)
app.add_typer(storage, name="storage")

Host = Annotated[
    str,
    typer.Option(
        envvar="CLIPCITE_HOST", help="Address to listen on. Other machines need an API key to connect."
    ),
]
Port = Annotated[
    int, typer.Option(envvar="CLIPCITE_PORT", min=0, max=65535, help="Port. 0 selects a free port.")
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of the database, images and models (default: CLIPCITE_DATA).")
]
Device = Annotated[
    str | None, typer.Option(help="Device: auto, cpu, cuda or cuda:N (default: CLIPCITE_DEVICE).")
]


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


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data: Data = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Pre-trained model, such as ViT-B-16/openai (default: CLIPCITE_BACKBONE)."),
    ] = None,
    device: Device = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the web page in the browser.")] = False,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token",
            help="Without keys, give every program on this machine full access, without a token.",
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the log of all processes.")] = False,
) -> None:
    """Run the service on this machine.

    The service consists of API, worker and dispatcher. Ctrl-C stops everything. On the next start, queued
    jobs continue; a running job resumes from its last checkpoint, if any.
    """
    settings = {"backbone": backbone, "device": device, "require_token": "false" if no_token else None}
    raise typer.Exit(serve_until_stopped(host, port, data, settings, open_page=open_page, verbose=verbose))


@app.command()
def api(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="CLIPCITE_PORT", min=1, max=65535, help="Port.")] = 8000,
    data: Data = None,
) -> None:
    """Run an API process.

    Any number may share one database and one blob storage.
    """
    become(API, environment(data, host=host, port=port))


@app.command()
def worker(
    device: Device = None,
    data: Data = None,
) -> None:
    """Run a worker, which trains jobs.

    A worker trains one job at a time. Start one worker per GPU.
    """
    become(WORKER, environment(data, device=device))


@app.command()
def dispatcher(data: Data = None) -> None:
    """Run a dispatcher.

    The dispatcher sends jobs to workers and delivers webhooks. One dispatcher is enough. A second one takes
    over if the first fails.
    """
    become(DISPATCHER, environment(data))


@app.command("server-path")
def show_server_path() -> None:
    """Print the folder of the server modules.

    With this folder in PYTHONPATH, Python can use the method as a library.
    """
    print(server_path())


@app.command()
def liveness(
    file: Annotated[Path, typer.Argument(help="Liveness file of the process (CLIPCITE_LIVENESS_FILE).")],
) -> None:
    """Check the liveness file of a process.

    Exits with status 0 if the file was touched in the last two minutes, else 1.
    """
    raise typer.Exit(subprocess.call(command(LIVENESS, str(file)), env=environment()))


@database.command()
def upgrade() -> None:
    """Migrate the database to this version.

    The database is that of CLIPCITE_DATABASE_URL, or the one in the data folder.
    """
    need_server()
    raise typer.Exit(subprocess.call(command(MIGRATE), env=environment()))


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name may have characters that its encoding lacks
    app()


if __name__ == "__main__":
    main()
