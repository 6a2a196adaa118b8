"""`clipcite samples`: sample images for a first training."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, stderr, stdout
from clipcite.cli.processes import SAMPLES, run_json
from clipcite.cli.render.tables import print_table, table_of


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
    options = ["--list"] if list_all else [*([name] if name else []), *([str(folder)] if folder else [])]
    result = run_json(SAMPLES, options, None)
    if as_json:
        print(json.dumps(result))
    elif list_all:
        table = table_of("name", "images", "classes", "licence")
        for each in result:
            images = "not installed" if each["problem"] else str(each["train_images"] + each["test_images"])
            classes = ", ".join([*each["classes"], *(f"{name} (new)" for name in each["new_classes"])])
            table.add_row(*map(escape, (each["name"], images, classes, each["license"])))
        print_table(stdout(), table)
    else:
        folder = Path(result["folder"])
        new = f" and {len(result['new_classes'])} new classes" if result["new_classes"] else ""
        console = stdout()
        console.print(
            f"{folder}/train  {result['train_images']} images of {', '.join(result['classes'])}\n"
            f"{folder}/test   {result['test_images']} images of these classes{new}",
            markup=False,
            soft_wrap=True,
        )
        stderr().print(f"[dim]{escape(result['credit'])} Licence: {result['license']}.[/]", soft_wrap=True)
        shown = shlex.quote(str(folder))
        stderr().print(f"next     clipcite adapt {shown} --wait --name {result['name']}", soft_wrap=True)
