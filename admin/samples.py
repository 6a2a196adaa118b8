"""`clipcite samples`: sample images for a first training."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from admin.installation import errors_in_words
from clipcite.cli.connection import AsJson, print_json, stderr, stdout
from core import sample


def samples(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Sample.")] = sample.NAME,
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Folder (default: the name of the sample).")
    ] = Path(sample.NAME),
    as_json: AsJson = False,
) -> None:
    """Write sample images to a folder.

    The folder gets train/ and test/, each with one folder per class. This needs no network.
    """
    with errors_in_words():
        sample.check_name(name)
        try:
            sample.write(folder)
        except OSError as error:
            place = error.filename or folder  # the error of a full disk has no file name
            typer.echo(f"{place} cannot be written: {error.strerror}. Choose another folder.", err=True)
            raise typer.Exit(1) from None
    if as_json:
        print_json(
            {
                "train": str(folder / "train"),
                "test": str(folder / "test"),
                "trained_classes": list(sample.TRAINED),
                "new_classes": list(sample.NEW),
                "license": sample.LICENSE,
            }
        )
        return
    train = sample.SHOTS * len(sample.TRAINED)
    test = sample.SIZE - train
    stdout().print(
        f"{folder}/train  {train} images of {', '.join(sample.TRAINED)}\n"
        f"{folder}/test   {test} images of these classes and of {', '.join(sample.NEW)} (new)",
        markup=False,
        soft_wrap=True,
    )
    stderr().print(f"[dim]{escape(sample.CREDIT)} Licence: {sample.LICENSE}.[/]", soft_wrap=True)
    shown = shlex.quote(str(folder))
    stderr().print(f"next     clipcite adapt {shown} --wait --name {sample.NAME}", soft_wrap=True)
