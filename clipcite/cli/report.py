"""`clipcite report`: evaluation of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, give_up, print_json, stdout, write_file
from clipcite.cli.references import JOB, find_model
from clipcite.cli.render.report import show_report


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
        subject = find_model(client, subject, or_job=True)
        job_id = subject if subject.startswith(JOB) else client.models.get(subject).job_id
        if job_id is None:
            give_up(f"{subject} was imported and not evaluated here, so there is no report.", Exit.REFUSED)
        fetched = client.jobs.report(job_id)
        page = None if html is None else client.jobs.report_page(job_id)
    if as_json:
        print_json(fetched.raw)
    else:
        show_report(stdout(), fetched)
    if html is not None and page is not None:
        write_file(html, page)
