"""A newly trained model with the data that its evaluation needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clipcite.types.images import Image
from core.clip.config import AdaptConfig
from core.clip.data.header import ImageLimits
from core.clip.inference.pile import photos_of
from core.clip.models.backbone import Backbone
from core.clip.prompts import Candidates


@dataclass(frozen=True)
class TrainingSet:
    """Images and labels of the training, without copies within a class."""

    class_names: tuple[str, ...]
    class_images: Sequence[int]
    """[K], number of training images of each class, copies included."""
    images: Sequence[Image]
    positions: Sequence[int]
    """[N], positions in the upload, ascending."""
    pixels: Sequence[Tensor]
    """N decoded images, uint8 [3, H, W]."""
    labels: Sequence[int]
    stock_features: Tensor
    """[N, D], by the stock model."""

    @cached_property
    def photos(self) -> NDArray[np.int64]:
        """[N], number of each image's photo. Images of a burst share it (`pile.photos_of`)."""
        return photos_of(self.stock_features.float().numpy(), np.asarray(self.labels))


@dataclass(frozen=True)
class EvalContext:
    """The training of the model under evaluation, and its settings."""

    backbone: Backbone
    trained: TrainingSet
    config: AdaptConfig
    limits: ImageLimits = ImageLimits()

    def candidates(self, names: Sequence[str]) -> Candidates:
        """Return the candidate classes `names`, the trained classes first, with their prompts."""
        config = self.config
        return Candidates.of(names, self.trained.class_names, config.templates, config.prompts)
