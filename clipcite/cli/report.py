"""`clipcite report`: whether to trust a model."""

from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, give_up, note, out, print_json
from clipcite.cli.render.report import show_report
from clipcite.client._sync.client import Client


def report(
    subject: Annotated[
        str, typer.Argument(metavar="JOB|MODEL", help="A job's id, or a model: its id, name@version …")
    ],
    html: Annotated[
        Path | None, typer.Option(help="Save the page with the images to this file.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Whether to trust a model, in plain words.

    Is it better than the stock network, on images that it was not trained on? Which labels look wrong? How
    far can its probabilities be believed?"""
    with connected(url, key) as client:
        job_id = _job_of(client, subject)
        found = client.jobs.report(job_id)
        page = None if html is None else client.jobs.report_page(job_id)
    if as_json:
        print_json(found.raw)
    else:
        show_report(out(), found)
    if html is not None and page is not None:
        try:
            html.write_text(page, encoding="utf-8")
        except OSError as error:
            give_up(f"{html} can't be written: {error.strerror or error}.", Exit.USAGE)
        note().print(f"The page is {html.absolute().as_uri()}", markup=False, soft_wrap=True)


def _job_of(client: Client, subject: str) -> str:
    if subject.startswith("job_"):
        return subject
    model = client.models.get(subject)
    if model.job_id is None:
        give_up(f"{subject} was imported: nothing was measured here, so there is no report.", Exit.REFUSED)
    return model.job_id
