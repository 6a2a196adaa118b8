"""A newly trained model with the data that its evaluation needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from core.clip.config import AdaptConfig
from core.clip.data.header import ImageLimits
from core.clip.evaluation.predictions import Candidates
from core.clip.models.backbone import Backbone
from core.clip.prompts import class_prompts
from core.clip.weights.files import Weights


@dataclass(frozen=True)
class TrainingSet:
    """The images and labels that the model was trained on."""

    class_names: tuple[str, ...]
    sources: Sequence[bytes | Path]
    positions: Sequence[int]
    """[N], positions in the upload."""
    images: Sequence[Tensor]
    """N decoded images, uint8 [3, H, W]."""
    labels: list[int]
    stock_features: Tensor
    """[N, D], by the stock model."""
    seconds: float
    """Duration of the training."""
    confirmed: frozenset[int] = frozenset()
    """Positions of the images whose labels are certain."""
    originals: Sequence[int] | None = None
    """[N], image of the same class that each image copies, or the image itself; None without copies."""


@dataclass(frozen=True)
class EvalContext:
    """The model under evaluation, its training set and its settings."""

    backbone: Backbone
    weights: Weights
    """The stored weights, so that the result includes the loss from packing."""
    trained: TrainingSet
    config: AdaptConfig
    limits: ImageLimits

    def candidates(self, names: Sequence[str]) -> Candidates:
        """Return the candidate classes `names`, the trained classes first, with their prompts."""
        prompts = tuple(class_prompts(name, self.config.templates, self.config.prompts) for name in names)
        return Candidates(tuple(names), len(self.trained.class_names), prompts)
