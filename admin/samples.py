"""`clipcite samples`: sample images for a first training."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from admin.installation import AsJson, errors_in_words
from clipcite.cli.connection import stderr, stdout
from clipcite.cli.render.tables import print_table, table_of
from core.samples import catalog
from core.samples.sample import Sample


def samples(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Sample (default: the recommended one).")
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Folder (default: the name of the sample).")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the samples; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write sample images to a folder.

    The folder gets train/ and test/, each with one folder per class. Nothing is downloaded.
    """
    if list_all:
        _list(as_json=as_json)
        return
    with errors_in_words():
        sample = catalog.available()[0] if name is None else catalog.find(name)
        folder = folder or Path(sample.name)
        try:
            sample.write(folder)
        except OSError as error:
            place = error.filename or folder  # a full disk names no file
            typer.echo(f"{place} cannot be written: {error.strerror}. Choose another folder.", err=True)
            raise typer.Exit(1) from None
    about = _json(sample)
    if as_json:
        print(json.dumps({**about, "folder": str(folder)}))
        return
    new = f" and {len(sample.new)} new classes" if sample.new else ""
    stdout().print(
        f"{folder}/train  {about['train_images']} images of {', '.join(sample.trained)}\n"
        f"{folder}/test   {about['test_images']} images of these classes{new}",
        markup=False,
        soft_wrap=True,
    )
    stderr().print(f"[dim]{escape(sample.credit)} Licence: {sample.license}.[/]", soft_wrap=True)
    shown = shlex.quote(str(folder))
    stderr().print(f"next     clipcite adapt {shown} --wait --name {sample.name}", soft_wrap=True)


def _list(*, as_json: bool) -> None:
    with errors_in_words():
        first = catalog.available()[0]
    if as_json:
        rows = [
            {**_json(sample), "default": sample is first, "problem": sample.problem()}
            for sample in catalog.SAMPLES
        ]
        print(json.dumps(rows))
        return
    table = table_of("name", "images", "classes", "licence")
    for sample in catalog.SAMPLES:
        images = "not installed" if sample.problem() else str(sample.size)
        classes = ", ".join([*sample.trained, *(f"{name} (new)" for name in sample.new)])
        table.add_row(*map(escape, (sample.name, images, classes, sample.license)))
    print_table(stdout(), table)


def _json(sample: Sample) -> dict[str, Any]:
    train = sample.shots * len(sample.trained)
    return {
        "name": sample.name,
        "title": sample.title,
        "classes": list(sample.trained),
        "new_classes": list(sample.new),
        "train_images": train,
        "test_images": sample.size - train,
        "license": sample.license,
        "credit": sample.credit,
    }
