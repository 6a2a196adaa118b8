"""Rounds of labels: a person labels the images that teach most. Labels count at once, and may train."""

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
    from clipcite.client.classification import ClassNames

SKIP = ""
"""Answer of a person who labels the next image instead."""


class NoMoreLabels(Exception):
    """A person wants to label no more images."""


def rounds(
    client: Client,
    log: Log,
    images: Sequence[Image],
    names: ClassNames | None,
    label: int,
    used: Model | None,
) -> list[Image]:
    """Ask for all images as a collection, and with `label` for labels, until a person has no more.

    Args:
        label: number of labels of a round; 0 for none.
        used: model, which keeps the labels as corrections; None is a pre-trained one.

    Returns:
        The images that got a label and, with a model, are its corrections. It can train again with these.
    """
    from clipcite.sorting.asking import ask_again  # loads pydantic, which help does not need

    taught: list[Image] = []
    said, more = None, label
    # An interrupted run may not have sent all labels.
    labelled = [image for image in images if image.key in log.labels]
    while True:
        if used is not None and label:
            stored = correct(used, log, labelled)
            taught += stored or []
            used = None if stored is None else used
        reason, suggested = ask_again(client, log, images, names, more)
        if reason not in (None, said):
            stderr().print(reason, markup=False, soft_wrap=True)
            said = reason
        if label:
            stderr().print(still_wrong(log, images))
        if not more:
            return taught
        labelled, stopped = ask_labels(log, suggested)
        if not labelled:
            return taught
        if stopped:
            more = 0


def ask_labels(log: Log, images: Sequence[Image], *, is_check: bool = False) -> tuple[list[Image], bool]:
    """Ask a person for the classes of images. A new class can be chosen for the next image at once.

    Args:
        is_check: don't show the model's class, and log the answer as part of a check.

    Returns:
        The images with a label, which the log has, and whether the person stopped.

    Raises:
        typer.Abort: Ctrl-C, or the end of the input.
    """
    classes: list[str] = []
    labelled: list[Image] = []
    try:
        for number, image in enumerate(images, 1):
            if len(log.classes) != len(classes):
                classes = log.classes
                menu = "  ".join(f"{digit} {name}" for digit, name in enumerate(classes, 1))
                stderr().print(f"{menu}  x none of these  s skip  q stop", markup=False, soft_wrap=True)
            ranked = [] if is_check else log.answers[image.key].ranked
            likely = ", ".join(f"{name} {probability:.0%}" for name, probability in ranked)
            line = f"[{number}/{len(images)}] {printable(str(image.path))}  {likely}"
            stderr().print(line, markup=False, soft_wrap=True)
            label = _typed_class(classes, ranked[0][0] if ranked else None)
            if label != SKIP:
                log.write({"image": image.key, "checked" if is_check else "label": label})
                labelled.append(image)
    except NoMoreLabels:
        return labelled, True
    return labelled, False


def _typed_class(classes: Sequence[str], likely: str | None) -> str | None:
    """Return the class that a person types, by name or number, SKIP, or None for none of these.

    Raises:
        NoMoreLabels: no more images.
    """
    while True:
        typed: str = typer.prompt("Class", default=likely, err=True).strip()
        if typed in classes:
            return typed
        if typed.isdecimal() and 1 <= int(typed) <= len(classes):
            return classes[int(typed) - 1]
        if typed == "s":
            return SKIP
        if typed == "x":
            return None
        if typed == "q":
            raise NoMoreLabels
        if found := next((name for name in classes if name.casefold() == typed.casefold()), None):
            return found
        if typer.confirm(f"{typed!r} is a new class?", err=True):
            return typed


def correct(model: Model, log: Log, images: Sequence[Image]) -> list[Image] | None:
    """Store labels as corrections of the model, once each, except those of images that belong to no class.

    Returns:
        The images whose labels are stored now; None if the model can't store labels.
    """
    from clipcite.errors import ConflictError  # loads pydantic, which help does not need

    new = [image for image in images if log.labels[image.key] and image.key not in log.stored]
    if not new:
        return new
    by_class: dict[str, list[Path]] = {}
    for image in new:
        by_class.setdefault(log.labels[image.key] or "", []).append(image.path)
    try:
        model.add_feedback(by_class)
    except ConflictError as error:
        note = f"{error.detail} Your labels count in this sort, but the model can't train with them."
        stderr().print(printable(note), markup=False, soft_wrap=True)
        return None
    log.write(*({"image": image.key, "stored": True} for image in new))
    return new


def train_again(client: Client, model: Model) -> Model:
    """Train a model again with its corrections. Return the new one."""
    job = model.extend()
    with watched(stderr()) as show:
        return client.models.get(job.wait(on_change=show).model_id)


def still_wrong(log: Log, images: Sequence[Image]) -> str:
    """Return how many images are likely in the wrong class, such as `About 12 of 480 are still wrong.`

    Those that a person labelled are right, and unreadable ones don't count. Something else is counted apart:
    nothing estimates how many of these are right.
    """
    answers = [log.answers[image.key] for image in images]
    readable = [image for image, answer in zip(images, answers, strict=True) if answer.ranked]
    unlabelled = [log.answers[image.key] for image in readable if image.key not in log.labels]
    rest = [answer for answer in unlabelled if not answer.rejected]
    wrong = round(sum(1 - answer.ranked[0][1] for answer in rest))
    word = "About" if rest and all(answer.calibrated for answer in rest) else "Perhaps"
    marked = sum(log.labels.get(image.key, "") is None for image in images)
    other = len(unlabelled) - len(rest) + marked
    more = f", and {other:,} are something else" if other else ""
    return f"{word} {wrong:,} of {len(readable):,} are still wrong{more}."
