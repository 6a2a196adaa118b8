"""`clipcite export`: download a model."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from clipcite.cli.connection import (
    Alpha,
    AsJson,
    Exit,
    Key,
    Url,
    connected,
    give_up,
    not_an_image,
    print_json,
    stderr,
    stdout,
)
from clipcite.cli.models import Reference
from clipcite.cli.references import find_model
from clipcite.cli.render.progress import transfer_bar


def export(
    model: Reference,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Path of the zip (default: a name from model and format).",
            dir_okay=False,
            writable=True,
            callback=not_an_image,
        ),
    ] = None,
    format: Annotated[
        # Repeats clipcite.types.models.ExportFormat: its import would add half to the start of every command.
        Literal["open_clip", "onnx", "delta", "classifier", "transformers", "immich"],
        typer.Option(
            metavar="FORMAT",
            help="open_clip, onnx, delta, classifier (one ONNX graph), transformers or immich.",
        ),
    ] = "open_clip",
    alpha: Alpha = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Download a model as a zip.

    The zip contains a model card. The file is created once the download is complete.
    """
    if output is None:
        name = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
        output = Path(f"{name}-{format}.zip")
        if output.exists():
            give_up(f"{output} exists. Choose another name: -o FILE.", Exit.USAGE)
    try:
        with (
            connected(url, key) as client,
            transfer_bar(stderr(), "preparing", "saving", "saving") as on_download,
        ):
            client.models.export(
                find_model(client, model), output, format=format, alpha=alpha, on_download=on_download
            )
    except OSError as error:
        give_up(f"{output} cannot be written: {error.strerror or error}.", Exit.USAGE)
    size = output.stat().st_size
    if as_json:
        print_json({"model": model, "format": format, "file": str(output), "bytes": size})
    else:
        stdout().print(f"{size / 1e6:.1f} MB  {output}", markup=False, soft_wrap=True)
