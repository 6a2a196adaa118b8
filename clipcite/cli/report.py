"""`clipcite report`: evaluation of a model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, give_up, print_json, stderr, stdout
from clipcite.cli.render.report import show_report

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client


def report(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="JOB|MODEL", help="Id of a job, or a model: id, name, name@version or name@alias."
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(help="Save the report as an HTML page with images to this file.", dir_okay=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show the evaluation of a model."""
    with connected(url, key) as client:
        job_id = _job_of(client, subject)
        fetched = client.jobs.report(job_id)
        page = None if html is None else client.jobs.report_page(job_id)
    if as_json:
        print_json(fetched.raw)
    else:
        show_report(stdout(), fetched)
    if html is not None and page is not None:
        # A full disk leaves an older file as it was. Devices such as /dev/stdout are written directly.
        device = html.exists() and not html.is_file()
        part = html if device else html.with_name(f".{html.name[:100]}.part")
        try:
            part.write_text(page, encoding="utf-8")
            part.replace(html)
        except OSError as error:
            if not device:
                with suppress(OSError):
                    part.unlink()
            give_up(f"{html} cannot be written: {error.strerror or error}.", Exit.USAGE)
        stderr().print(f"Saved {html.absolute().as_uri()}", markup=False, soft_wrap=True)


def _job_of(client: Client, subject: str) -> str:
    """Return the id of the job that made a model."""
    if subject.startswith("job_"):
        return subject
    model = client.models.get(subject)
    if model.job_id is None:
        give_up(f"{subject} was imported and not evaluated here, so there is no report.", Exit.REFUSED)
    return model.job_id
