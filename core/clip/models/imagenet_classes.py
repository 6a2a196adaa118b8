"""Distractor classes: untrained ImageNet classes, used to measure forgetting."""

from collections.abc import Iterable

from open_clip import IMAGENET_CLASSNAMES

from core.clip.prompts import same_class

DISTRACTOR_CLASSES = 50


def distractor_classes(class_names: Iterable[str], most: int = DISTRACTOR_CLASSES) -> tuple[str, ...]:
    """Return up to `most` evenly spaced ImageNet class names that share no word with `class_names`."""
    words = {word for name in class_names for word in same_class(name).split()}
    unrelated = [n for n in dict.fromkeys(IMAGENET_CLASSNAMES) if not words & set(same_class(n).split())]
    every = max(1, len(unrelated) // max_count)
    return tuple(unrelated[::every][:max_count])
