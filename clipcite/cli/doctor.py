"""`clipcite doctor`: check the installation and the service."""

import os
import sys
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, print_json, stdout
from clipcite.cli.operator import server_missing, server_module
from clipcite.cli.render.tables import facts, print_table
from clipcite.client.retry import Retry
from clipcite.errors import APIConnectionError, ClipCiteError

SIGNS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[red]error[/]"}


def doctor(
    data: Annotated[
        Path | None, typer.Option(help="Data folder of `clipcite serve` (default: CLIPCITE_DATA).")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Check this machine and the service.

    Exits with status 1 if there is an error.
    """
    if data is not None:
        os.environ["CLIPCITE_DATA"] = str(data)  # also for the token of the service
    python = ("python", "ok", f"{sys.version.split()[0]}, {sys.executable}")
    findings = [python, *_server(), *_service(url, key)]
    if as_json:
        print_json([dict(zip(("name", "state", "detail"), finding, strict=True)) for finding in findings])
    else:
        rows = ((name, f"{SIGNS[state]}  {escape(detail)}") for name, state, detail in findings)
        print_table(stdout(), facts(rows))
    if any(state == "problem" for _, state, _ in findings):
        raise typer.Exit(Exit.FAILED)


def _server() -> Iterator[tuple[str, str, str]]:
    """Yield per check its name, its state (a key of `SIGNS`) and the detail."""
    missing = server_missing()
    if missing is not None:
        yield "server", "warning", f"Not installed. To run a service on this machine: {missing}"
        return
    findings = server_module("admin.doctor").check()
    yield from (astuple(finding) for finding in findings)


def _service(url: str | None, key: str | None) -> Iterator[tuple[str, str, str]]:
    from clipcite.client._sync.client import Client

    try:
        with Client(url, key, retry=Retry(attempts=1)) as client:
            readiness = client.ready()
            worst = {"ok": "ok", "degraded": "warning"}.get(readiness.status, "problem")
            parts = [
                f"{name}: {part.get('reason')}"
                for name, part in readiness.parts.items()
                if part.get("reason")
            ]
            yield "service", worst, "; ".join([f"{client.base_url} is {readiness.status}", *parts])
            next(client.jobs.list(page_size=1), None)
            yield "API key", "ok", "accepted"
    except APIConnectionError as error:
        yield "service", "warning", str(error)
    except ClipCiteError as error:
        yield "service", "problem", str(error)
