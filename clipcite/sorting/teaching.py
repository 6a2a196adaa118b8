"""Questions to a person: the images that teach most, and images drawn at random. Answers go to the pile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from clipcite.cli.connection import stderr
from clipcite.cli.render.progress import watched
from clipcite.datasets.image import printable

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client
    from clipcite.client._sync.models import Model
    from clipcite.client._sync.piles import Pile
    from clipcite.types.piles import How, PileSort

SKIP = ""
"""Answer of a person who doesn't know."""


class NoMoreLabels(Exception):
    """A person wants to label no more images."""


def ask_person(pile: Pile, found: PileSort, paths: Mapping[int, str]) -> tuple[int, bool]:
    """Ask a person for the classes of the images in `found.ask`. Each answer is sent at once.

    The class of the sort is shown, except for images drawn at random, which measure it. A new class can be
    chosen for the next image.

    Args:
        pile: pile that gets the answers.
        found: sort of the pile.
        paths: path on this disk, or in the pile, by position.

    Returns:
        The number of answers with a label, and whether the person stopped.

    Raises:
        typer.Abort: Ctrl-C, or the end of the input.
    """
    classes: list[str] = []
    labelled = 0
    names = [each.name for each in found.class_names]
    for number, shown in enumerate(found.ask, 1):
        if (now := list(dict.fromkeys([*names, *pile.class_names]))) != classes:
            classes = now
            menu = "  ".join(f"{digit} {name}" for digit, name in enumerate(classes, 1))
            stderr().print(f"{menu}  x none of these  s skip  q stop", markup=False, soft_wrap=True)
        place = found.images[shown.position]
        likely = None if shown.drawn else place.class_name
        guess = f"  {likely} {place.probability:.0%}" if likely and place.probability is not None else ""
        line = f"[{number}/{len(found.ask)}] {printable(paths[shown.position])}{guess}"
        stderr().print(line, markup=False, soft_wrap=True)
        try:
            label = _typed_class(classes, likely)
        except NoMoreLabels:
            return labelled, True
        how: How = "drawn" if shown.drawn else "chosen"
        pile.answer(shown.position, label or None, said="skip" if label == SKIP else None, how=how)
        labelled += label != SKIP
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
        if typed and typer.confirm(f"{typed!r} is a new class?", err=True):
            return typed


def train_again(client: Client, model: Model, pile: Pile) -> Model:
    """Train a model again with the labels of a pile. The new one sorts the pile."""
    job = model.extend(pile=pile)
    with watched(stderr()) as show:
        new = client.models.get(job.wait(on_change=show).model_id)
    pile.update(model=new.id)
    return new
