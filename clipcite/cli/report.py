"""`clipcite report`: evaluation of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from clipcite.cli.connection import (
    AsJson,
    Exit,
    Key,
    Url,
    connected,
    give_up,
    not_an_image,
    print_json,
    stdout,
    write_file,
)
from clipcite.cli.references import JOB, find_model
from clipcite.cli.render.tables import print_table, table_of
from clipcite.cli.render.verdict import COLOURS

if TYPE_CHECKING:
    from clipcite.types.report import ImageReport, Report

MAX_SHOWN = 10
CLASSES = "Accuracy per class, lowest recall first (recall: share of its images with the correct class)"


def report(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="JOB|MODEL", help="Id of a job, or a model: id, name, name@version or name@alias."
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(
            help="Save the report as an HTML page with images to this file.",
            dir_okay=False,
            callback=not_an_image,
        ),
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
            give_up(
                f"{subject} was imported and not evaluated here, so there is no report. Measure it with "
                f"`clipcite evaluate {subject} FOLDER`.",
                Exit.REFUSED,
            )
        fetched = client.jobs.report(job_id)
        page = None if html is None else client.jobs.report_page(job_id)
    if as_json:
        print_json(fetched.raw)
    else:
        _show_report(stdout(), fetched)
    if html is not None and page is not None:
        write_file(html, page)


def _show_report(console: Console, report: Report) -> None:
    """Print verdict, recommendations, label issues, classes and mistakes."""
    console.print(
        f"[bold {COLOURS.get(report.verdict, 'yellow')}]{escape(report.summary)}[/]", soft_wrap=True
    )
    for recommendation in report.recommendations:
        console.print(f"- {escape(recommendation.detail)}", soft_wrap=True)
    console.print(f"[dim]{escape(report.measured_on.how)}[/]", soft_wrap=True)
    if report.label_issues_note:
        console.print(f"[dim]{escape(report.label_issues_note)}[/]", soft_wrap=True)
    _images(console, "Possible label issues", report.label_issues, "labelled")
    _classes(console, report)
    _images(console, "Misclassified images, most confident first", report.mistakes, "true class")


def _classes(console: Console, report: Report) -> None:
    measured = [row for row in report.classes if row.recall is not None]
    if not measured:
        return
    table = table_of("class", "trained on", "evaluated on", "recall before", "recall after", "precision")
    for row in sorted(measured, key=lambda row: row.recall or 0):
        shares = (_share(row.stock_recall), _share(row.recall), _share(row.precision))
        table.add_row(escape(row.name), str(row.trained_images), str(row.images), *shares)
    console.print(f"\n{CLASSES}")
    print_table(console, table)


def _images(console: Console, title: str, images: Sequence[ImageReport], column: str) -> None:
    """Print the first images of a list, with the class of `column`."""
    if not images:
        return
    table = table_of("image", column, "predicted", "probability")
    for row in images[:MAX_SHOWN]:
        cells = (_file(row), row.class_name, row.predicted, _share(row.probability))
        table.add_row(*map(escape, cells))
    console.print(f"\n{title}: {len(images)}")
    print_table(console, table)
    if len(images) > MAX_SHOWN:
        console.print(f"[dim]and {len(images) - MAX_SHOWN} more (all with --json or --html)[/]")


def _file(image: ImageReport) -> str:
    """Return the file name without folders: they name the class, which has a column of its own."""
    return PurePosixPath(image.file_name).name if image.file_name else f"number {image.position + 1}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"
