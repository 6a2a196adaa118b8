"""What people said about the images of a pile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from clipcite.types.class_names import same_class
from core.answers import Answer, act_of, key_of
from core.answers import labels as labels_of
from core.clip.inference.graph import Bools, Ints
from core.clip.inference.pile import NONE

UNSAID = -1
"""An image without a label."""
TAUGHT = 5
"""Number of images of a named group, the first ones, that are examples for the limit. More add little."""


@dataclass(frozen=True)
class Answers:
    """What counts of the answers about the N images of a pile."""

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
    alone: Bools
    """[N], True for images that a person was asked about alone."""
    checked: Bools
    """[N], True for labels that a person gave when asked about the image alone, or after that."""
    had_label: Bools
    """[N], True for checked labels of images that had one before, such as that of their group."""
    confirmed: Bools
    """[N], True if that label was the same."""
    examples: Bools
    """[N], True for labels that are examples: not drawn, and of a group the first TAUGHT."""
    groups: int
    """Number of groups that got an answer."""

    @classmethod
    def of(cls, count: int, answers: Iterable[Answer]) -> "Answers":
        """Return what counts (`core.answers`) of the answers about `count` images, oldest first."""
        given = list(answers)
        names: dict[str, str] = {}
        groups = 0
        for (said, key, how), together in groupby(given, act_of):
            groups += how == "group" and said != "not_class"
            if key is not None:
                names.setdefault(key, str(next(together).class_name))
        place: dict[str | None, int] = {None: NONE, **{key: number for number, key in enumerate(names)}}
        labels, named = np.full(count, UNSAID), np.full(count, UNSAID)
        barred = np.zeros((count, len(names)), bool)
        never_none, seen, skipped, drawn, examples = np.zeros((5, count), bool)
        alone, checked, had_label, confirmed = np.zeros((4, count), bool)
        for at, label in labels_of(given).items():
            if label.group is not None:
                named[at] = place[key_of(label.group)]
            if label.answer is None:
                continue
            seen[at], skipped[at], drawn[at], alone[at] = True, label.skipped, label.drawn, label.alone
            never_none[at] = None in label.excluded
            barred[at, [place[key] for key in label.excluded if key is not None]] = True
            if (counted := label.given) is not None:
                labels[at] = place[key_of(counted)]
                examples[at] = not label.drawn and (counted.how != "group" or label.rank < TAUGHT)
                checked[at] = label.checked is not None
                if checked[at] and label.earlier is not None:
                    had_label[at], confirmed[at] = True, key_of(label.earlier) == key_of(counted)
        return cls(
            names=tuple(names.values()),
            labels=labels,
            named=named,
            barred=barred,
            never_none=never_none,
            seen=seen,
            skipped=skipped,
            drawn=drawn,
            alone=alone,
            checked=checked,
            had_label=had_label,
            confirmed=confirmed,
            examples=examples,
            groups=groups,
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
        """True if nobody has said anything about an image. Skipping an image says nothing about it."""
        return not (self.labelled.any() or self.barred.any() or self.never_none.any())

    @property
    def used_names(self) -> list[str]:
        """Classes of labels and of named groups. Names that were taken back are left out."""
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
