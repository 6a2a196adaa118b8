"""Distractor classes: ImageNet class names unrelated to the trained classes."""

from collections.abc import Iterable

from open_clip import IMAGENET_CLASSNAMES

from clipcite.types.class_names import same_class


def distractor_classes(class_names: Iterable[str], max_count: int) -> tuple[str, ...]:
    """Return up to `max_count` ImageNet names, evenly spaced, that share no word with `class_names`."""
    words = {word for name in class_names for word in same_class(name).split()}
    unrelated = [n for n in dict.fromkeys(IMAGENET_CLASSNAMES) if not words & set(same_class(n).split())]
    every = max(1, len(unrelated) // max_count)
    return tuple(unrelated[::every][:max_count])
