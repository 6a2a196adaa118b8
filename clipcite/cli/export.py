"""`clipcite export`: a model to take along."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, give_up, note, out, print_json
from clipcite.cli.render.progress import download_bar


class Format(StrEnum):
    OPEN_CLIP = "open_clip"
    ONNX = "onnx"
    DELTA = "delta"


def export(
    model: Annotated[str, typer.Argument(help="Its id, its name (the latest version), name@version …")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The zip to write.", dir_okay=False, writable=True)
    ],
    format: Annotated[
        Format,
        typer.Option(
            help="A folder that open_clip loads; ONNX graphs; or the change of the backbone alone, for "
            "`clipcite models import` elsewhere."
        ),
    ] = Format.OPEN_CLIP,
    alpha: Annotated[
        float | None, typer.Option(min=0, max=1, help="0 pre-trained, 1 fine-tuned. [default: the model's]")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Download a model as a zip with a model card.

    The file is there once all of it is."""
    try:
        with connected(url, key) as client, download_bar(note()) as came:
            client.models.export(model, output, format=format.value, alpha=alpha, on_download=came)
    except OSError as error:
        give_up(f"{output} can't be written: {error.strerror or error}.", Exit.USAGE)
    size = output.stat().st_size
    if as_json:
        print_json({"model": model, "format": format.value, "file": str(output), "bytes": size})
    else:
        out().print(f"{output}  {size / 1e6:.1f} MB", markup=False, soft_wrap=True)
