"""Class names of a request, resolved to trained classes and prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.prompts import all_class_prompts, class_indices
from core.serving.types import ClassName

Prompts = tuple[str, ...]
"""The prompts of one class."""


@dataclass(frozen=True)
class ResolvedNames:
    """The class names of a request, with trained classes and prompts."""

    names: list[str]
    classes: tuple[int, ...]
    """Trained class per name, or `NEW_CLASS`."""
    prompts: tuple[Prompts, ...]

    @property
    def kinds(self) -> dict[str, str]:
        """`trained` or `new`, by name."""
        return {
            name: "new" if c == NEW_CLASS else "trained"
            for name, c in zip(self.names, self.classes, strict=True)
        }


def resolve_class_names(
    asked: Sequence[ClassName],
    trained: Sequence[str],
    templates: Sequence[str],
    own_prompts: Mapping[str, Sequence[str]],
) -> ResolvedNames:
    """Resolve class names to trained classes and prompts.

    The prompts are the request's, else the model's own prompts of that class, else the templates.
    """
    names = [class_name.name for class_name in asked]
    defaults = all_class_prompts(names, templates, own_prompts)
    prompts = tuple(
        class_name.prompts or default for class_name, default in zip(asked, defaults, strict=True)
    )
    return ResolvedNames(names, tuple(class_indices(names, trained)), prompts)
