"""`clipcite classify`: rank class names for images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from clipcite.cli.connection import AsJson, Exit, Key, Url, connected, print_json, stderr, stdout
from clipcite.cli.render.tables import classification_table
from clipcite.datasets.class_folders import images_below


def classify(
    images: Annotated[list[str], typer.Argument(help="Files, folders or patterns such as 'new/*.jpg'.")],
    classes: Annotated[
        list[str],
        typer.Option(
            "--classes",
            "-c",
            help="Class names, separated by commas; repeatable. name=text sets the prompt of a class.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model: id, name, name@version, name@alias, id of a job, or stock."
        ),
    ] = "stock",
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Mixing weight, 0 (pre-trained) to 1 (fine-tuned) (default: the model's)."
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", min=1, help="Show only the K most likely classes.")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt template such as 'a photo of a {}.'; repeatable.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Rank class names, trained or new, for each image."""
    names = _names(classes)
    files = [path for argument in images for path in _files(argument)]
    with connected(url, key) as client:
        answer = client.classify(files, names, model=model, alpha=alpha, top_k=top_k, templates=template)
    if as_json:
        print_json(answer.raw)
    else:
        stdout().print(classification_table(answer))
        for warning in answer.warnings:
            stderr().print(f"[yellow]note[/] {escape(warning.detail)}", soft_wrap=True)
    if any(result.error for result in answer.results):
        raise typer.Exit(Exit.FAILED)


def _names(arguments: list[str]) -> dict[str, list[str] | None]:
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
    path = Path(argument)
    if path.is_dir():
        files = list(images_below(path))
    elif path.is_file():
        files = [path]
    else:
        start = Path(path.anchor)
        files = sorted(file for file in start.glob(str(path.relative_to(start))) if file.is_file())
    if not files:
        raise typer.BadParameter(f"no image at {argument}.", param_hint="IMAGES")
    return files
