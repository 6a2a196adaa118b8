"""The names of a request as one model understands them."""

from collections.abc import Mapping, Sequence
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
