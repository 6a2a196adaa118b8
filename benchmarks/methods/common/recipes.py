"""Which settings of a method belong to which backbone."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from core.clip.models.backbone import Backbone

Settings = TypeVar("Settings")


def recipe(recipes: Mapping[str, Settings], backbone: Backbone) -> Settings:
    """The settings of the first pattern that fits the backbone's name; the last pattern is "*", the
    values of the method's paper, which are for CLIP ViT-B/16 unless the method's file says otherwise."""
    return next(settings for pattern, settings in recipes.items() if fnmatchcase(backbone.name, pattern))
