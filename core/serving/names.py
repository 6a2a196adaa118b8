"""The names of a request as one model understands them."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.clip.inference.class_offsets import NEW
from core.clip.prompts import all_class_texts, class_indices
from core.serving.text_cache import A_CLASS, Texts, texts_bytes
from core.serving.types import ClassName


@dataclass(frozen=True)
class Names:
    names: list[str]
    classes: tuple[int, ...]
    """For each name its trained class, or `balance.NEW`."""
    texts: tuple[Texts, ...]

    @property
    def kinds(self) -> dict[str, str]:
        return {
            name: "new" if c == NEW else "trained" for name, c in zip(self.names, self.classes, strict=True)
        }


def understood(
    asked: Sequence[ClassName],
    trained: Sequence[str],
    templates: Sequence[str],
    own_texts: Mapping[str, Sequence[str]],
) -> Names:
    """Texts are the request's; else the model's own for its names; else the templates."""
    names = [one.name for one in asked]
    of_names = all_class_texts(names, templates, own_texts)
    texts = tuple(one.texts or implied for one, implied in zip(asked, of_names, strict=True))
    return Names(names, tuple(class_indices(names, trained)), texts)


class Understood:
    """The last lists of names, so that a thousand of them are looked at once.

    Lists with sentences of their own are not kept: each request has a new tuple of them.
    """

    def __init__(self, budget_bytes: int = 16_000_000) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        # By the place of the tuple of names, which is not another's as long as it is kept here.
        self._kept: OrderedDict[tuple[int, str, object], tuple[Sequence[ClassName], Names, int]] = (
            OrderedDict()
        )

    def get(
        self,
        asked: tuple[ClassName, ...],
        subject: str,
        templates: tuple[str, ...],
        make: Callable[[], Names],
    ) -> Names:
        """As `subject`, which never changes, understands the very tuple `asked`."""
        key = (id(asked), subject, templates)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        names = make()
        if any(one.texts is not None for one in asked):
            return names
        # The names themselves are those of `asked`, whose memory is counted here too.
        size = texts_bytes(templates) + sum(
            A_CLASS + sys.getsizeof(name) + texts_bytes(texts)
            for name, texts in zip(names.names, names.texts, strict=True)
        )
        with self._lock:
            if key not in self._kept and size <= self.budget_bytes:
                self._kept[key] = asked, names, size
                self.bytes += size
            while self.bytes > self.budget_bytes:
                _, (_, _, freed) = self._kept.popitem(last=False)
                self.bytes -= freed
        return names
