"""What persons said about the images of a pile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from clipcite.types.class_names import same_class
from clipcite.types.piles import How, Said
from core.clip.inference.graph import Bools, Ints
from core.clip.inference.pile import NONE

UNSAID = -1
"""An image without a label."""
TAUGHT = 5
"""First images of a named group that are examples for the limit. Further ones add little."""


class Answer(Protocol):
    """An answer about one image, such as a row of the database."""

    @property
    def position(self) -> int: ...
    @property
    def said(self) -> Said | str: ...
    @property
    def class_name(self) -> str | None: ...
    @property
    def how(self) -> How | str: ...


@dataclass(frozen=True)
class Answers:
    """What counts about the N images of a pile."""

    names: tuple[str, ...]
    """Classes, in the order of their first answer."""
    labels: Ints
    """[N], class of `names`, NONE or UNSAID."""
    named: Ints
    """[N], the same for unseen members of a named group. They have no label."""
    barred: Bools
    """[N, C], True for classes that a person excluded."""
    never_none: Bools
    """[N], True if a person said that the image is of one of the classes."""
    seen: Bools
    """[N], True for images that a person was asked about."""
    skipped: Bools
    """[N], True for images without a label about which the person did not know the answer."""
    drawn: Bools
    """[N], True if the label was asked because the image was drawn at random."""
    examples: Bools
    """[N], True for labels that are examples: not drawn, and of a group the first TAUGHT."""
    groups: int
    """Number of groups that got an answer."""

    @classmethod
    def of(cls, count: int, answers: Iterable[Answer]) -> "Answers":
        """Read the answers about `count` images, oldest first.

        The last answer about an image counts. An excluded class removes the label of that class alone, and a
        skipped image keeps its label. A member of a group that was not shown gets no label.
        """
        given = list(answers)
        names: dict[str, str] = {}
        for each in given:
            if each.class_name is not None:
                names.setdefault(same_class(each.class_name), each.class_name)
        place = {key: number for number, key in enumerate(names)}
        labels, named = np.full(count, UNSAID), np.full(count, UNSAID)
        barred = np.zeros((count, len(names)), bool)
        never_none, seen, skipped, drawn, examples = np.zeros((5, count), bool)
        groups, before, first = 0, None, 0
        for number, each in enumerate(given):
            at, said, how = each.position, each.said, each.how
            label = NONE if each.class_name is None else place[same_class(each.class_name)]
            act = said, label, how
            if act != before:
                before, first = act, number
                groups += how == "group" and said != "not_class"
            if how == "member":
                named[at] = label
                continue
            if said == "withdrawn":
                labels[at] = named[at] = UNSAID
                for marks in (barred, never_none, seen, skipped, drawn, examples):
                    marks[at] = False
                continue
            seen[at] = True
            if said == "skip":
                skipped[at] = labels[at] == UNSAID
            elif said == "not_class":
                if label == NONE:
                    never_none[at] = True
                else:
                    barred[at, label] = True
                if labels[at] == label:
                    labels[at], drawn[at], examples[at] = UNSAID, False, False
            else:
                labels[at], skipped[at] = label, False
                if label == NONE:
                    never_none[at] = False
                else:
                    barred[at, label] = False
                drawn[at] |= how == "drawn"
                examples[at] = not drawn[at] and (how != "group" or number - first < TAUGHT)
        return cls(
            tuple(names.values()), labels, named, barred, never_none, seen, skipped, drawn, examples, groups
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> Bools:
        """[N], True for images with a label."""
        has: Bools = self.labels != UNSAID
        return has

    @property
    def nothing(self) -> bool:
        """True if nobody has said anything."""
        return not self.seen.any()

    @property
    def used_names(self) -> list[str]:
        """Classes of labels and of named groups. A name that was taken back is none of them."""
        used = {*self.labels.tolist(), *self.named.tolist()}
        return [name for number, name in enumerate(self.names) if number in used]

    def without(self, rows: Ints) -> "Answers":
        """Return the answers without the labels of some images. What was excluded before stays excluded."""
        labels = self.labels.copy()
        labels[rows] = UNSAID
        return replace(self, labels=labels)

    def columns(self, names: Sequence[str]) -> "Answers":
        """Return the answers with the classes `names`, which include all of `used_names`."""
        place = {same_class(name): column for column, name in enumerate(names)}
        column = np.array([place.get(same_class(name), UNSAID) for name in self.names], np.int64)
        of = np.append(column, [NONE, UNSAID])  # the last two have the indices NONE and UNSAID
        barred = np.zeros((len(self), len(names)), bool)
        kept = np.flatnonzero(column != UNSAID)
        barred[:, column[kept]] = self.barred[:, kept]
        return replace(self, names=tuple(names), labels=of[self.labels], named=of[self.named], barred=barred)
