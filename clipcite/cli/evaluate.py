"""`clipcite evaluate`: accuracy of a model on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Key, Url, connected, print_json, stdout
from clipcite.cli.models import Reference
from clipcite.cli.references import find_model
from clipcite.cli.render.tables import print_table, table_of
from clipcite.datasets.detect import read


def evaluate(
    model: Reference,
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IMAGES]",
            help="Labelled images in any form that `adapt` takes (default: show the last evaluation).",
            exists=True,
        ),
    ] = None,
    on_bad_image: Annotated[
        Literal["fail", "skip"], typer.Option(help="Stop at unusable images, or skip them.")
    ] = "fail",
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Evaluate a model on labelled images.

    All of them are test images. The service keeps the result, but not the images. Without images, show the
    last result.
    """
    with connected(url, key) as client:
        found = client.models.get(find_model(client, model))
        if images is None:
            response = found.evaluation()
        else:
            upload = images if images.suffix.lower() == ".zip" else read(images)
            response = found.evaluate(upload, on_bad_image=on_bad_image)
    if as_json:
        print_json(response.model_dump(mode="json"))
        return
    console = stdout()
    counted = f"{response.correct:,} of {response.images:,} right."
    console.print(f"[bold]{counted}[/] {escape(' '.join(response.sentences))}", soft_wrap=True)
    for warning in response.warnings:
        console.print(f"[yellow]note[/] {escape(warning.detail)}", soft_wrap=True)
    table = table_of("class", "images", "right before", "right now")
    for row in response.classes:
        counts = (row.images, row.stock_correct, row.correct)
        table.add_row(escape(row.name), *map(str, counts))
    print_table(console, table)
    if response.mistakes:
        table = table_of("image", "true class", "predicted", "probability")
        for each in response.mistakes:
            cells = (each.file, each.class_name, each.predicted, f"{100 * each.probability:.0f}%")
            table.add_row(*map(escape, cells))
        console.print(f"\nMisclassified images, most confident first: {len(response.mistakes)}")
        print_table(console, table)
