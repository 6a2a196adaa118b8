"""`clipcite doctor`: what is there, what is not, and what to do about it."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, out, print_json
from clipcite.cli.processes import DOCTOR, ask, server_missing
from clipcite.cli.render.tables import facts
from clipcite.client._sync.client import Client
from clipcite.client.errors import APIConnectionError, ClipCiteError
from clipcite.client.retry import Retry

SIGNS = {"ok": "[green]ok[/]", "warning": "[yellow]look[/]", "problem": "[red]wrong[/]"}


@dataclass(frozen=True)
class Finding:
    name: str
    state: str
    detail: str


def doctor(
    data: Annotated[Path | None, typer.Option(help="Data folder, as given to `clipcite serve`.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Check this machine and the service, and say what to do. Status 1 if something is wrong."""
    findings = [_python(), *_server(data), *_service(url, key)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        out().print(facts((one.name, f"{SIGNS[one.state]}  {escape(one.detail)}") for one in findings))
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(Exit.FAILED)


def _python() -> Finding:
    return Finding("python", "ok", f"{sys.version.split()[0]}, {sys.executable}")


def _server(data: Path | None) -> Iterator[Finding]:
    missing = server_missing()
    if missing is not None:
        yield Finding("server", "warning", f"Not installed here; to run a service here too: {missing}")
        return
    findings: list[dict[str, Any]] = ask(DOCTOR, [], data)
    yield from (Finding(**finding) for finding in findings)


def _service(url: str | None, key: str | None) -> Iterator[Finding]:
    try:
        with Client(url, key, retry=Retry(attempts=1)) as client:
            try:
                readiness = client.ready()
            except APIConnectionError:
                yield Finding(
                    "service",
                    "warning",
                    f"None at {client.base_url}. Start one with `clipcite serve`, or give --url.",
                )
                return
            worst = {"ok": "ok", "degraded": "warning"}.get(readiness.status, "problem")
            parts = [
                f"{name}: {part.get('reason')}"
                for name, part in readiness.parts.items()
                if part.get("reason")
            ]
            yield Finding("service", worst, "; ".join([f"{client.base_url} is {readiness.status}", *parts]))
            next(client.jobs.list(page_size=1), None)
            yield Finding("key", "ok", "opens it")
    except ClipCiteError as error:
        yield Finding("service", "problem", str(error))
