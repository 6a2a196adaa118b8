"""What counts of the answers of people about the images of a pile."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Generic, Protocol, TypeVar

from clipcite.types.class_names import same_class


class Answer(Protocol):
    """An answer about one image, such as a row of the database."""

    @property
    def position(self) -> int: ...
    @property
    def said(self) -> str: ...
    @property
    def class_name(self) -> str | None: ...
    @property
    def how(self) -> str: ...


A = TypeVar("A", bound=Answer)
ALONE = {"drawn", "chosen", "moved"}
"""Values of `how` with which a person looks at one image, and answers for it alone."""


@dataclass(slots=True)
class Label(Generic[A]):
    """What people said about an image. A class is known by its key (`key_of`)."""

    answer: A | None = None
    """The answer that counts. None: none, or all were withdrawn."""
    rank: int = 0
    """Number of answers before it that say the same in the same way, one after the other."""
    excluded: dict[str | None, str | None] = field(default_factory=dict)
    """Classes that a person excluded, as they were spelled; None is "none of these"."""
    drawn: bool = False
    """The image was drawn at random. A later correction of its label changes nothing about that."""
    alone: bool = False
    """A person was asked about the image alone."""
    earlier: A | None = None
    """The label that it had when it was drawn, or before it was skipped."""
    skipped: bool = False
    """The image has no label, because the person did not know the answer."""
    group: A | None = None
    """The last answer about a group that has the image as an unseen member. It is no label."""

    @property
    def given(self) -> A | None:
        """The answer that counts, if it is a class or "none of these"."""
        return self.answer if self.answer is not None and self.answer.said in ("class", "none") else None

    @property
    def checked(self) -> A | None:
        """The answer that counts, if a person gave it to the image alone, or later."""
        return self.given if self.alone and self.given is not self.earlier else None


def key_of(answer: Answer) -> str | None:
    """Return the key of the class of an answer, or None for "none of these"."""
    return None if answer.class_name is None else same_class(answer.class_name)


def act_of(answer: Answer) -> tuple[str, str | None, str]:
    """Return what answers have in common that a person gave together."""
    return answer.said, key_of(answer), answer.how


def labels(answers: Iterable[A]) -> dict[int, Label[A]]:
    """Return what counts about each image, by position. The answers about an image are oldest first.

    The last answer about an image counts. An excluded class removes the label of that class alone, and a
    skipped image keeps its label. A member of a group that was not shown gets no label.
    """
    found: dict[int, Label[A]] = {}
    for (said, key, how), together in groupby(answers, act_of):
        for rank, row in enumerate(together):
            label = found.get(row.position)
            if label is None or (said == "withdrawn" and how != "member"):
                label = found[row.position] = Label()
            if how in ALONE and said in ("class", "none", "skip") and not label.alone:
                label.alone = True
                label.earlier = label.given if how == "drawn" or said == "skip" else None
            if how == "member":
                label.group = row
            elif said == "skip":
                label.skipped = label.given is None
                label.answer = label.answer or row
            elif said == "not_class":
                label.excluded.setdefault(key, row.class_name)
                if label.answer is None or key_of(label.answer) == key:
                    label.answer, label.drawn, label.alone, label.earlier = row, False, False, None
            elif said != "withdrawn":
                label.answer, label.rank, label.skipped = row, rank, False
                label.excluded.pop(key, None)
                label.drawn |= how == "drawn"
    return found
