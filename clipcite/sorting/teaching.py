"""Rounds of labels: a person labels the images that teach most, and the model is trained with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clipcite.cli.connection import stderr
from clipcite.cli.render.progress import watched
from clipcite.datasets.image import printable
from clipcite.sorting.log import Log
from clipcite.sorting.plan import Image

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client
    from clipcite.client._sync.models import Model


def ask_labels(log: Log, images: Sequence[Image], classes: Sequence[str]) -> list[Image]:
    """Ask a person for the classes of images. Return those with a label, which the log has."""
    menu = "  ".join(f"{number} {name}" for number, name in enumerate(classes, 1))
    stderr().print(f"{menu}  s skip  q stop", markup=False, soft_wrap=True)
    labelled = []
    try:
        for number, image in enumerate(images, 1):
            ranked = log.answers[image.key].ranked
            likely = ", ".join(f"{name} {probability:.0%}" for name, probability in ranked)
            line = f"[{number}/{len(images)}] {printable(str(image.path))}  {likely}"
            stderr().print(line, markup=False, soft_wrap=True)
            label = _typed_class(classes, ranked[0][0])
            if label is not None:
                log.write({"image": image.key, "label": label})
                labelled.append(image)
    except typer.Abort:  # also Ctrl-C and the end of the input
        stderr().print()
    return labelled


def _typed_class(classes: Sequence[str], likely: str) -> str | None:
    """Return the class that a person types, by name or number, or None to skip the image.

    Raises:
        typer.Abort: no more images.
    """
    while True:
        typed: str = typer.prompt("Class", default=likely, err=True).strip()
        if typed in classes:
            return typed
        if typed.isdecimal() and 1 <= int(typed) <= len(classes):
            return classes[int(typed) - 1]
        if typed == "s":
            return None
        if typed == "q":
            raise typer.Abort
        if typer.confirm(f"{typed!r} is a new class?", err=True):
            return typed


def correct(model: Model, log: Log, labelled: Sequence[Image]) -> None:
    """Store labelled images as corrections of the model."""
    by_class: dict[str, list[Path]] = {}
    for image in labelled:
        by_class.setdefault(log.labels[image.key], []).append(image.path)
    model.add_feedback(by_class)


def train_again(client: Client, model: Model) -> Model:
    """Train a model again with its corrections. Return the new one."""
    job = model.extend()
    with watched(stderr()) as show:
        return client.models.get(job.wait(on_change=show).model_id)


def still_wrong(log: Log, images: Sequence[Image]) -> str:
    """Return how many images are likely in the wrong class, such as `About 12 of 480 are still wrong.`

    Those that a person labelled are right, and unreadable ones don't count.
    """
    answers = [log.answers[image.key] for image in images]
    readable = [image for image, answer in zip(images, answers, strict=True) if answer.ranked]
    rest = [log.answers[image.key] for image in readable if image.key not in log.labels]
    wrong = round(sum(1 - answer.ranked[0][1] for answer in rest))
    word = "About" if all(answer.calibrated for answer in rest) else "Perhaps"
    return f"{word} {wrong:,} of {len(readable):,} are still wrong."
