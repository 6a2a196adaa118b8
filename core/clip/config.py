"""All settings of a training job, and the recipe of each backbone as data.

This module does not import torch: the API resolves a job's settings before any model is loaded.
"""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from clipcite.types.adapt import STARTER, AdaptConfig, Range
from core.clip.errors import InvalidConfig
from core.clip.prompts import check_prompts, check_templates

__all__ = ["STARTER", "AdaptConfig", "resolve_config"]
FEW_IMAGES, MIN_STEPS = 30, 30
"""A job with the starter and at most FEW_IMAGES training images takes at least MIN_STEPS steps, unless it has
`epochs` (benchmarks/pages/pile.md)."""
GOOD_IMAGES = (4, 16)
"""Training images per class that work well (docs/how-to/images-and-names.md)."""
USUAL_SIDE = 224
"""Input side that batch sizes assume (pixels)."""
MAX_SUPPORT_SHOTS = 4_096
"""Maximum number of shots in a support set. If there are more classes, each has one shot.

benchmarks/pages/requests.md has the measurements.
"""
MAX_ENLARGEMENT = 2
"""Maximum input side as a multiple of the network's own, or of a larger usual one. Memory and time
grow with its square or faster."""


RECIPES: tuple[tuple[str, dict[str, Any]], ...] = (
    # The first pattern that matches the backbone's name wins. Fields that a recipe leaves out have the values
    # of the paper for ViT-B/16 with OpenAI's weights, the only network that the paper measured.
    #
    # Tuned on the data listed in benchmarks/pages/accuracy.md.
    (
        STARTER,
        {
            "epochs": 10,
            "learning_rate": 1e-4,
            "classifier_learning_rate": 1e-3,
            "image_size": 160,
        },
    ),
    # The paper's network. Only OpenAI's weights are measured.
    ("ViT-B-16/*", {}),
    # Same width and depth, larger patches. Unmeasured.
    ("ViT-B-32/*", {}),
    # Below, micro-batches limit memory without changing the gradients. The learning rates are the paper's,
    # and unmeasured for these networks. benchmarks.full_size measures the memory.
    #
    # 24 layers of width 1,024: a batch of 32 at once stores 0.56 GB per image.
    ("ViT-L-14/*", {"micro_batch_size": 4}),
    ("ViT-L-14-336/*", {"micro_batch_size": 4}),
    # 375 million parameters, half of them the embeddings of 256,000 tokens.
    ("ViT-B-16-SigLIP2/*", {"micro_batch_size": 8}),
    # Convolutions at 256 pixels store 0.35 GB per image.
    ("MobileCLIP-S2/*", {"micro_batch_size": 8}),
    ("*", {}),
)


def resolve_config(*, images: int | None = None, **settings: Any) -> AdaptConfig:
    """Return the settings, checked and completed.

    Raises:
        InvalidConfig: an unknown field, or a value out of range.
    """
    return resolve(check_settings(settings), images)


def resolve(settings: AdaptConfig, images: int | None = None) -> AdaptConfig:
    """Complete the settings from the backbone's recipe, then from the paper's defaults.

    Args:
        images: number of training images, if known. With few images the starter trains for more epochs.
    """
    given = settings.model_fields_set
    recipe = next(r for pattern, r in RECIPES if fnmatchcase(settings.backbone, pattern))
    config = settings.model_copy(update={name: recipe[name] for name in recipe.keys() - given})
    if config.backbone == STARTER and images is not None and images <= FEW_IMAGES and "epochs" not in given:
        steps = math.ceil(images / config.batch_size)
        return config.model_copy(update={"epochs": max(config.epochs, math.ceil(MIN_STEPS / steps))})
    return config


def check_settings(given: Mapping[str, Any]) -> AdaptConfig:
    """Return settings by name as their type. None means not given.

    Raises:
        InvalidConfig: an unknown field, or a value out of range.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    for name, field in AdaptConfig.model_fields.items():
        for limits in field.metadata:
            if isinstance(limits, Range) and name in settings:
                _check_range(name, settings[name], limits)
    if "alpha" in settings:
        settings["alpha"] = round_alpha(settings["alpha"])
    if "templates" in settings:
        settings["templates"] = [*check_templates(settings["templates"])]
    if "prompts" in settings:
        settings["prompts"] = {name: [*own] for name, own in check_prompts(settings["prompts"]).items()}
    try:
        return AdaptConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0])
        raise InvalidConfig(name, f"{name}: {first['msg']}.") from error


def stored_settings(config: Mapping[str, Any]) -> AdaptConfig:
    """Return the settings of a stored job. Leave out settings that this version does not know."""
    return check_settings({name: config[name] for name in config.keys() & AdaptConfig.model_fields.keys()})


def round_alpha(alpha: float) -> float:
    """Round α to 0.01, the grid on which models are trained, imported, served and exported."""
    return round(float(alpha), 2)


def _check_range(name: str, value: float, limits: Range) -> None:
    is_number = isinstance(value, int if limits.whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not limits.low <= value <= limits.high:  # also rejects NaN
        kind = "a whole number" if limits.whole else "a number"
        # repr fails for integers of more than 4,300 digits.
        shown = f", not {value!r}" if not isinstance(value, int) or abs(value) < 10**100 else ""
        raise InvalidConfig(name, f"{name} must be {kind} from {limits.low:g} to {limits.high:g}{shown}.")
