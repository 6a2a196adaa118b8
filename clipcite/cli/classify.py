"""`clipcite classify`: rank class names for images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from clipcite.cli.connection import (
    Alpha,
    AsJson,
    Exit,
    Key,
    Url,
    connected,
    not_an_image,
    print_json,
    stderr,
    stdout,
    write_file,
)
from clipcite.cli.references import find_model
from clipcite.cli.render.tables import print_table, table_of
from clipcite.datasets.class_folders import images_below
from clipcite.datasets.image import printable

if TYPE_CHECKING:
    from clipcite.types.classify import Classification, ImageResult
from clipcite.types.tables import as_csv

Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--classes",
        "-c",
        help="Class names, separated by commas; repeatable. name=text sets the prompt of a class. "
        "Default: the classes of the model.",
    ),
]
SOMETHING_ELSE, UNREADABLE = "something else", "unreadable"


def classify(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES", help="Files, folders or patterns such as 'new/*.jpg'.")
    ],
    classes: Classes = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model: id, name, name@version, name@alias, id of a job, or stock."
        ),
    ] = "stock",
    alpha: Alpha = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", "-k", min=1, help="Show the K most likely classes (default: 1; with --json, all)."
        ),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt template such as 'a photo of a {}.'; repeatable.")
    ] = None,
    something_else: Annotated[
        bool,
        typer.Option(
            "--something-else", help="Mark images that belong to none of a trained model's classes."
        ),
    ] = False,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write the table to a CSV file.",
            dir_okay=False,
            callback=not_an_image,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Rank class names for images.

    The classes may be trained or new. Without --classes, the model's classes are used.
    """
    names = None if classes is None else class_names(classes)
    if names is None and is_stock(model):
        raise typer.BadParameter("is required with the stock model.", param_hint="--classes")
    files = [path for argument in images for path in _files(argument)]
    if something_else and is_stock(model):
        reason = (
            "compares with training images: name a trained model with --model, or leave --something-else out."
        )
        raise typer.BadParameter(reason, param_hint="--something-else")
    with connected(url, key) as client:
        response = client.classify(
            files,
            names,
            model=model if is_stock(model) else find_model(client, model, or_job=True),
            alpha=alpha,
            top_k=top_k if as_json else top_k or 1,
            templates=template,
            something_else=something_else,
        )
    if as_json:
        pairs = zip(response.raw["results"], response.results, strict=True)
        results = [{**raw, "file": result.file} for raw, result in pairs]
        print_json({**response.raw, "results": results})
    else:
        if csv_file is None:
            print_table(stdout(), predictions_table(response))
            if len(files) > 1:
                stdout().print()
        if len(files) > 1:
            stdout().print(tally(response), markup=False, soft_wrap=True)
        for warning in response.warnings:
            stderr().print(f"[yellow]note[/] {escape(warning.detail)}", soft_wrap=True)
    if csv_file is not None:
        write_file(csv_file, predictions_csv(response))
    if any(result.error for result in response.results):
        raise typer.Exit(Exit.FAILED)


def is_stock(model: str) -> bool:
    """Return whether a reference denotes a pre-trained model, `stock` or `stock:<backbone>`."""
    return model.partition(":")[0] == "stock"


def class_names(arguments: list[str]) -> dict[str, list[str] | None]:
    """Parse --classes into class names and their prompts."""
    names: dict[str, list[str] | None] = {}
    for item in (part.strip() for argument in arguments for part in argument.split(",")):
        name, _, text = item.partition("=")
        if name:
            names[name.strip()] = [*(names.get(name.strip()) or []), text.strip()] if text else None
    if not names:
        raise typer.BadParameter("must name a class.", param_hint="--classes")
    return names


def _files(argument: str) -> list[Path]:
    """Return the images that a file, a folder or a pattern names."""
    if not argument:  # An empty variable of a shell, and as a path the current folder.
        raise typer.BadParameter(
            "one of the names is empty. Is a variable of the shell unset?", param_hint="IMAGES"
        )
    path = Path(argument)
    try:
        if path.is_dir():
            files = list(images_below(path))
        elif path.is_file():
            files = [path]
        else:
            start = Path(path.anchor)
            files = sorted(file for file in start.glob(str(path.relative_to(start))) if file.is_file())
    except PermissionError as error:
        shown = printable(str(Path(error.filename)))
        raise typer.BadParameter(
            f"{shown} can't be read. Change its permissions.", param_hint="IMAGES"
        ) from error
    except (OSError, ValueError) as error:  # a name that is too long, or a malformed pattern
        raise typer.BadParameter(f"no image at {argument}: {error}.", param_hint="IMAGES") from error
    if not files:
        raise typer.BadParameter(
            f"no image at {argument}. Give files, a folder or a quoted pattern such as 'photos/*.jpg'.",
            param_hint="IMAGES",
        )
    return files


def predictions_table(response: Classification) -> Table:
    """Return a table with a line per image and prediction."""
    new = {each.name for each in response.class_names if each.kind == "new"}
    if len(new) == len(response.class_names):
        new = set()  # the usual case for the stock model, whose classes are all new
    table = table_of("image", "class", "probability")
    for result in response:
        for place, (name, probability) in enumerate(_rows(result)):
            shown = Text(name, style="" if place else "bold").append(" (new)" if name in new else "", "dim")
            percent = f"{100 * float(probability):.1f}%" if probability else ""
            table.add_row(Text("" if place else printable(result.file or "")), shown, percent)
    return table


def predictions_csv(response: Classification) -> str:
    """Return the same lines as CSV, with probabilities from 0 to 1."""
    rows = ([result.file or "", *row] for result in response for row in _rows(result))
    return as_csv([["image", "class", "probability"], *rows])


def tally(response: Classification) -> str:
    """Return the number of images per class, such as `28 images: skirt 20, dress 7, unreadable 1`."""
    counts = Counter(_first(result) for result in response)
    classes = (f"{name} {count:,}" for name, count in counts.most_common())
    return f"{len(response):,} images: {', '.join(classes)}"


def _rows(result: ImageResult) -> list[tuple[str, str]]:
    """Return class and probability of each prediction for an image."""
    if result.error is not None:
        return [(f"{UNREADABLE}: {result.error.detail}", "")]
    if result.something_else:
        return [(SOMETHING_ELSE, "")]
    return [(each.class_name, f"{each.probability:.4f}") for each in result.predictions]


def _first(result: ImageResult) -> str:
    return UNREADABLE if result.error else SOMETHING_ELSE if result.something_else else result.class_name
