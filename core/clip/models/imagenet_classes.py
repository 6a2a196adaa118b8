"""Names that nobody trained on, spread over ImageNet's, to see what an adaptation has changed elsewhere."""

from collections.abc import Iterable

from open_clip import IMAGENET_CLASSNAMES

from core.clip.prompts import same_class

DISTRACTOR_CLASSES = 50


def distractor_classes(class_names: Iterable[str], most: int = DISTRACTOR_CLASSES) -> tuple[str, ...]:
    """Up to 50 names, spread over ImageNet's, that share no word with those given."""
    words = {word for name in class_names for word in same_class(name).split()}
    apart = [n for n in dict.fromkeys(IMAGENET_CLASSNAMES) if not words & set(same_class(n).split())]
    every = max(1, len(apart) // most)
    return tuple(apart[::every][:most])
