"""`clipcite classify`: any class names for any images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, note, out, print_json
from clipcite.cli.render.tables import classification_table
from clipcite.datasets.class_folders import images_below


def classify(
    images: Annotated[list[str], typer.Argument(help="Files, folders, or patterns such as 'new/*.jpg'.")],
    classes: Annotated[
        list[str],
        typer.Option(
            "--classes",
            "-c",
            help="Names with commas between them; may be repeated. name=text has it read as that.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Its id, its name, name@version, name@alias, a job's id, or stock."
        ),
    ] = "stock",
    alpha: Annotated[
        float | None, typer.Option(min=0, max=1, help="0 pre-trained, 1 fine-tuned. [default: the model's]")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="Only the best so many.")] = None,
    template: Annotated[list[str] | None, typer.Option(help="'a photo of a {}.'; may be repeated.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Rank class names, trained or new, for each image."""
    names = _names(classes)
    found = [path for given in images for path in _files(given)]
    with connected(url, key) as client:
        answer = client.classify(found, names, model=model, alpha=alpha, top_k=top_k, templates=template)
    if as_json:
        print_json(answer.raw)
    else:
        out().print(classification_table(answer))
        for warning in answer.warnings:
            note().print(f"[yellow]note[/] {escape(warning.detail)}", soft_wrap=True)
    if any(result.error for result in answer.results):
        raise typer.Exit(Exit.FAILED)


def _names(given: list[str]) -> dict[str, list[str] | None]:
    """Names and the prompts that are read for them."""
    names: dict[str, list[str] | None] = {}
    for one in (part.strip() for text in given for part in text.split(",")):
        name, _, text = one.partition("=")
        if name:
            names[name.strip()] = [*(names.get(name.strip()) or []), text.strip()] if text else None
    if not names:
        raise typer.BadParameter("needs a name.", param_hint="--classes")
    return names


def _files(given: str) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        found = list(images_below(path))
    elif path.is_file():
        found = [path]
    else:
        start = Path(path.anchor)
        found = sorted(one for one in start.glob(str(path.relative_to(start))) if one.is_file())
    if not found:
        raise typer.BadParameter(f"there is no image at {given}.", param_hint="IMAGES")
    return found
