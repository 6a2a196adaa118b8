"""`clipcite serve`, `api`, `worker` and `dispatcher`: the processes of the service, and their database."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from admin.processes import API, DISPATCHER, MIGRATE, WORKER, become, command, environment
from clipcite.cli.operator import server_path

db = typer.Typer(no_args_is_help=True, help="Manage the database schema.")
Host = Annotated[
    str,
    typer.Option(
        envvar="CLIPCITE_HOST", help="Address to listen on. Other machines need the token or an API key."
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


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data: Data = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Pre-trained model, such as ViT-B-16/openai (default: CLIPCITE_BACKBONE)."),
    ] = None,
    wait_for_backbone: Annotated[
        bool,
        typer.Option("--wait-for-backbone", help="Do not classify until --backbone has been downloaded."),
    ] = False,
    device: Device = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the web page in the browser.")] = False,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token",
            help="If there are no API keys, give every program on this machine full access.",
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the log of all processes.")] = False,
) -> None:
    """Run the service on this machine.

    It consists of the API, a worker, which also dispatches, and the message broker Valkey. Ctrl-C stops all
    of them. On the next start, queued jobs continue, and a running job resumes from its last checkpoint, if
    any.
    """
    from admin.serve import serve_until_stopped

    settings = {"backbone": backbone, "device": device, "require_token": "false" if no_token else None}
    later = backbone is not None and not wait_for_backbone
    status = serve_until_stopped(
        host, port, data, settings, later=later, open_page=open_page, verbose=verbose
    )
    raise typer.Exit(status)


def api(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="CLIPCITE_PORT", min=1, max=65535, help="Port.")] = 8000,
    data: Data = None,
) -> None:
    """Run an API process.

    Any number of API processes may share one database and one blob storage.
    """
    become(API, environment(data, host=host, port=port))


def worker(device: Device = None, data: Data = None) -> None:
    """Run a worker, which trains jobs.

    A worker trains one job at a time. Start one worker per GPU.
    """
    become(WORKER, environment(data, device=device))


def dispatcher(data: Data = None) -> None:
    """Run a dispatcher.

    The dispatcher sends jobs to workers and delivers webhooks. One dispatcher is enough. Several share
    the work.
    """
    become(DISPATCHER, environment(data))


def show_path() -> None:
    """Print the folder of the server modules.

    With this folder on PYTHONPATH, your own Python code can import the training method (`core.clip`).
    """
    print(server_path())


@db.command()
def upgrade() -> None:
    """Migrate the database to this version's schema.

    It is the database that CLIPCITE_DATABASE_URL names, or by default the one in the data folder.
    """
    raise typer.Exit(subprocess.call(command(MIGRATE), env=environment()))
