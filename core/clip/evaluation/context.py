"""A network that has just been trained, and all that is needed to examine it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from core.clip.config import AdaptConfig
from core.clip.data.images import ImageLimits
from core.clip.evaluation.predictions import Candidates
from core.clip.models.backbone import Backbone
from core.clip.prompts import class_prompts
from core.clip.weights.files import Weights


@dataclass(frozen=True)
class TrainingSet:
    """What the published network was trained on."""

    class_names: tuple[str, ...]
    sources: Sequence[bytes | Path]
    positions: Sequence[int]
    """Places in the upload."""
    images: Sequence[Tensor]
    """Read: uint8 [3, H, W]."""
    labels: list[int]
    seconds: float
    """How long that took."""


@dataclass(frozen=True)
class EvalContext:
    backbone: Backbone
    weights: Weights
    """As they are stored, so that what is lost in packing them is part of the result."""
    trained: TrainingSet
    config: AdaptConfig
    limits: ImageLimits

    def candidates(self, names: Sequence[str]) -> Candidates:
        prompts = tuple(class_prompts(name, self.config.templates, self.config.prompts) for name in names)
        return Candidates(tuple(names), len(self.trained.class_names), prompts)
