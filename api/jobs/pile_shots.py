"""Labelled images of a pile for a training."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.jobs.form import InvalidUpload, JobForm
from clipcite.types.images import Image
from core.answers import Label
from core.answers import labels as labels_of
from core.store import piles
from core.store.errors import Conflict


@dataclass(frozen=True)
class PileShots:
    """What a pile gives to a training."""

    images: list[Image]
    """Images with a class. Those drawn at random are test images."""
    replaced: frozenset[str]
    """SHA-256 of files whose earlier labels no longer count, because the pile knows better."""


def pile_shots(session: Session, form: JobForm, owner: str) -> PileShots:
    """Return the labelled images of the form's pile, if it has one.

    Raises:
        PileNotFound: the owner has no such pile.
        Conflict: the pile keeps no images.
        InvalidUpload: no image has a class.
    """
    if form.pile is None:
        return PileShots([], frozenset())
    pile = piles.get(session, form.pile, owner=owner)
    if not pile.keeps_images:
        raise Conflict(
            "pile_without_images",
            "This pile keeps no images. Send them with their labels, or make another pile.",
        )
    labels = labels_of(piles.answers(session, pile.id))
    images, replaced = list[Image](), set[str]()
    for row in piles.images(session, pile.id):
        label = labels.get(row.position, Label())
        answer = label.given
        replaced.add(str(row.blob_sha256))  # only the pile has given this copy to a training
        if answer is None:
            continue
        replaced.add(row.sha256)
        if answer.said == "none":
            continue
        is_test = label.drawn and form.pile_drawn == "test"
        images.append(
            Image(
                str(row.blob_key),
                str(answer.class_name),
                "test" if is_test else "train",
                row.file,
                sha256=str(row.blob_sha256),
                bytes=row.bytes,
                label_confirmed=True,
            )
        )
    if not images:
        raise InvalidUpload(
            "no_labels", "No image of the pile has a class. Say what some images are, then train."
        )
    return PileShots(images, frozenset(replaced))
