"""The names of a request as one model understands them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.clip.balance import NEW
from core.clip.prompts import all_class_texts, class_indices
from core.serving.answer import ClassName
from core.serving.texts import Texts


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
    """The last lists of names, so that a thousand of them are looked at once."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._lock = threading.Lock()
        # By the place of the tuple of names, which is not another's as long as it is kept here.
        self._kept: OrderedDict[tuple[int, str, object], tuple[Sequence[ClassName], Names]] = OrderedDict()

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
        with self._lock:
            self._kept[key] = asked, names
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return names
