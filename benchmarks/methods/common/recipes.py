"""Settings of a method by backbone."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from core.clip.models.backbone import Backbone

Settings = TypeVar("Settings")


def recipe(recipes: Mapping[str, Settings], backbone: Backbone) -> Settings:
    """Return the settings of the first pattern that matches the backbone's name.

    The last pattern, "*", has the values of the method's paper: for CLIP ViT-B/16, unless the method's file
    says otherwise.
    """
    return next(settings for pattern, settings in recipes.items() if fnmatchcase(backbone.name, pattern))
