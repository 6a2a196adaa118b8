"""Every knob of an adaptation, and the recipe of each backbone, as data.

This module imports no torch: the API resolves a job's settings with it before anything is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from core.clip.errors import InvalidConfig
from core.clip.prompts import DEFAULT_TEMPLATES, check_prompts, check_templates

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DeltaFormat = Literal["full", "4bit", "1bit"]
Evaluate = Literal["auto", "none"]
STARTER = "starter"


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of one adaptation; the defaults are the paper's for CLIP ViT-B/16 (section 4.1).

    What the paper leaves open (weight decay, crop scale, W's learning rate, the last partial
    batch) is settled here: see each field. Raises InvalidConfig on a value out of range.
    """

    backbone: str = STARTER
    epochs: int = 20
    batch_size: int = 32
    """At most this many images a step; an epoch is cut into equal batches, so none is tiny."""
    micro_batch_size: int | None = None
    """Images of a batch that the image tower holds at a time; None = all. Fewer need less memory and
    more time, and change nothing else."""
    learning_rate: float = 5e-6
    """Peak of the cosine for both towers. Ten times too high forgets, ten times too low learns nothing."""
    text_learning_rate: float | None = None
    """Peak for the text tower; None = the image tower's, as in the paper; 0 leaves the tower as it is."""
    classifier_learning_rate: float = 5e-5
    """Peak for W, which starts as the text embeddings and is thrown away: it may move faster."""
    weight_decay: float = 0.01
    """AdamW's decay of the towers; W has none (it is normalised at every use)."""
    scl_weight: float = 0.7
    """λ of eq. 6."""
    vld_weight: float = 0.1
    """η of eq. 6."""
    alpha: float = 0.5
    """α of eq. 7: 0 is the pre-trained network, 1 the fine-tuned one."""
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Own sentences per class name, used instead of the templates."""
    image_size: int | None = None
    """Side of the square that the image tower sees; None = the backbone's own."""
    crop_scale: float = 0.5
    """Random resized crops cover at least this share of an image."""
    precision: Precision = "auto"
    seed: int = 0
    holdout: float = 0.0
    """Share of each class's images kept out of the training to measure the result."""
    evaluate: Evaluate = "auto"
    """Whether there is a report. Without test images and `holdout` that takes as long as the training
    again: siblings are trained, see `core.clip.data.splits`."""
    delta_format: DeltaFormat = "4bit"
    """How the change of each weight is stored: in full, or by so many bits. What is measured and served is
    what is stored. The default, by evidence: benchmarks/README.md."""

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
            _check_range("image_size", self.image_size, 32, 1_024, whole=True)
        _check_range("crop_scale", self.crop_scale, 0.01, 1.0)
        _check_choice("precision", self.precision, get_args(Precision))
        _check_range("seed", self.seed, 0, 2**63 - 1, whole=True)
        _check_range("holdout", self.holdout, 0.0, 0.5)
        _check_choice("evaluate", self.evaluate, get_args(Evaluate))
        _check_choice("delta_format", self.delta_format, get_args(DeltaFormat))
        object.__setattr__(self, "templates", check_templates(self.templates))
        object.__setattr__(self, "prompts", check_prompts(self.prompts))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `resolve_config(**config.to_dict())` gives it back."""
        plain = asdict(self)
        plain["templates"] = list(self.templates)
        plain["prompts"] = {name: list(prompts) for name, prompts in self.prompts.items()}
        return plain


RECIPES: tuple[tuple[str, dict[str, Any]], ...] = (
    # The first pattern that fits the backbone's name wins. `starter`: measured on the data named
    # in benchmarks/README.md. The others start from the paper's ViT-B/16.
    (
        STARTER,
        {
            "epochs": 10,
            "learning_rate": 1e-4,
            "classifier_learning_rate": 1e-3,
            "image_size": 160,
        },
    ),
    ("*", {}),
)


def resolve_config(*, backbone: str = STARTER, **given: Any) -> AdaptConfig:
    """The given fields, the rest from the backbone's recipe, the rest of that from the paper.

    Raises InvalidConfig on an unknown field or a value out of range.
    """
    known = {f.name for f in fields(AdaptConfig)}
    for name in given:
        if name not in known:
            raise InvalidConfig(name, f"There is no setting {name!r}; known: {', '.join(sorted(known))}.")
    recipe = next(r for pattern, r in RECIPES if fnmatchcase(backbone, pattern))
    return AdaptConfig(backbone=backbone, **{**recipe, **given})


def round_alpha(alpha: float) -> float:
    """Round α to 0.01: the grid on which models are trained, imported, served and exported."""
    return round(float(alpha), 2)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidConfig(name, f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def _check_range(name: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # false for NaN as well
        kind = "a whole number" if whole else "a number"
        # repr stumbles over whole numbers of thousands of digits.
        given = f", not {value!r}" if not isinstance(value, int) or abs(value) < 10**100 else ""
        raise InvalidConfig(name, f"{name} must be {kind} from {low:g} to {high:g}{given}.")
