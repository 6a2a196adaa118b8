"""All settings of a training job, and the recipe of each backbone as data.

This module does not import torch: the API resolves a job's settings before any model is loaded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from core.clip.errors import InvalidConfig
from core.clip.prompts import DEFAULT_TEMPLATES, check_prompts, check_templates

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DeltaFormat = Literal["full", "4bit"]
Evaluate = Literal["auto", "none"]
STARTER = "starter"
FEW_IMAGES, MIN_STEPS = 30, 30
"""A job with the starter and at most FEW_IMAGES training images takes at least MIN_STEPS steps, unless it has
`epochs` (benchmarks/pages/pile.md)."""
GOOD_IMAGES = (4, 16)
"""Training images per class that work well (docs/how-to/images-and-names.md)."""
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 1_024
"""Bounds of the input side of a network (pixels)."""
USUAL_SIDE = 224
"""Input side that batch sizes assume (pixels)."""
MAX_ENLARGEMENT = 2
"""Maximum input side as a multiple of the network's own, or of a larger usual one. Memory and time
grow with its square or faster."""


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of a training job. The defaults are the paper's for CLIP ViT-B/16 (section 4.1).

    The paper does not state weight decay, crop scale, W's learning rate and the treatment of the last partial
    batch. This project chose these defaults, described at each field.

    Raises:
        InvalidConfig: a value is out of range.
    """

    backbone: str = STARTER
    epochs: int = 20
    batch_size: int = 32
    """Maximum number of images per step. Each epoch is split into batches of equal size."""
    micro_batch_size: int | None = None
    """Maximum number of images in the image tower at a time; None = the whole batch. A smaller value saves
    memory and costs time; the gradients stay the same."""
    learning_rate: float = 5e-6
    """Peak learning rate of both towers (cosine schedule). Ten times as much causes forgetting. A tenth
    changes almost nothing."""
    text_learning_rate: float | None = None
    """Peak learning rate of the text tower; None = the same as the image tower, as in the paper; 0 freezes
    the text tower."""
    classifier_learning_rate: float = 5e-5
    """Peak learning rate of W. W starts as the text embeddings and is discarded, so it may move faster."""
    weight_decay: float = 0.01
    """AdamW weight decay of both towers. W is not decayed, because it is normalised at every use."""
    scl_weight: float = 0.7
    """λ of eq. 6."""
    vld_weight: float = 0.1
    """η of eq. 6."""
    alpha: float = 0.5
    """α of eq. 7: 0 is the pre-trained model, 1 the fine-tuned model; rounded to 0.01."""
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Custom prompts by class name, used instead of the templates."""
    image_size: int | None = None
    """Input side of the image tower (pixels); None = the backbone's default."""
    crop_scale: float = 0.5
    """Minimum share of the image area that a random resized crop covers."""
    precision: Precision = "auto"
    seed: int = 0
    evaluate: Evaluate = "auto"
    """`auto` writes a report, `none` does not. Without test images the report doubles the
    training time, because fold models are trained (see `core.clip.data.splits`)."""
    delta_format: DeltaFormat = "4bit"
    """Storage format of each weight's change: 4 bits or full precision. Evaluation and serving use the
    stored weights. benchmarks/pages/ablations.md has the measurements behind the default."""

    def __post_init__(self) -> None:
        _check_range("epochs", self.epochs, 1, 1_000, whole=True)
        _check_range("batch_size", self.batch_size, 2, 4_096, whole=True)
        if self.micro_batch_size is not None:
            _check_range("micro_batch_size", self.micro_batch_size, 1, 4_096, whole=True)
        _check_range("learning_rate", self.learning_rate, 0.0, 1.0)
        if self.text_learning_rate is not None:
            _check_range("text_learning_rate", self.text_learning_rate, 0.0, 1.0)
        _check_range("classifier_learning_rate", self.classifier_learning_rate, 0.0, 1.0)
        _check_range("weight_decay", self.weight_decay, 0.0, 1.0)
        _check_range("scl_weight", self.scl_weight, 0.0, 100.0)
        _check_range("vld_weight", self.vld_weight, 0.0, 100.0)
        _check_range("alpha", self.alpha, 0.0, 1.0)
        object.__setattr__(self, "alpha", round_alpha(self.alpha))
        if self.image_size is not None:
            _check_range("image_size", self.image_size, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE, whole=True)
        _check_range("crop_scale", self.crop_scale, 0.01, 1.0)
        _check_choice("precision", self.precision, get_args(Precision))
        _check_range("seed", self.seed, 0, 2**63 - 1, whole=True)
        _check_choice("evaluate", self.evaluate, get_args(Evaluate))
        _check_choice("delta_format", self.delta_format, get_args(DeltaFormat))
        object.__setattr__(self, "templates", check_templates(self.templates))
        object.__setattr__(self, "prompts", check_prompts(self.prompts))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; `resolve_config(**config.to_dict())` restores the configuration."""
        plain = asdict(self)
        plain["templates"] = list(self.templates)
        plain["prompts"] = {name: list(prompts) for name, prompts in self.prompts.items()}
        return plain


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


def resolve_config(*, backbone: str = STARTER, images: int | None = None, **settings: Any) -> AdaptConfig:
    """Complete the settings from the backbone's recipe, then from the paper's defaults.

    Args:
        images: number of training images, if known. With few images the starter trains for more epochs.

    Raises:
        InvalidConfig: an unknown field, or a value out of range.
    """
    known = {f.name for f in fields(AdaptConfig)}
    for name in settings:
        if name not in known:
            raise InvalidConfig(name, f"There is no setting {name!r}; known: {', '.join(sorted(known))}.")
    recipe = next(r for pattern, r in RECIPES if fnmatchcase(backbone, pattern))
    config = AdaptConfig(backbone=backbone, **{**recipe, **settings})
    if backbone == STARTER and images is not None and images <= FEW_IMAGES and "epochs" not in settings:
        steps = math.ceil(images / config.batch_size)
        return replace(config, epochs=max(config.epochs, math.ceil(MIN_STEPS / steps)))
    return config


def round_alpha(alpha: float) -> float:
    """Round α to 0.01, the grid on which models are trained, imported, served and exported."""
    return round(float(alpha), 2)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidConfig(name, f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def _check_range(name: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # also rejects NaN
        kind = "a whole number" if whole else "a number"
        # repr fails for integers of more than 4,300 digits.
        shown = f", not {value!r}" if not isinstance(value, int) or abs(value) < 10**100 else ""
        raise InvalidConfig(name, f"{name} must be {kind} from {low:g} to {high:g}{shown}.")
