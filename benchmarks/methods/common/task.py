"""Interface of a method: its task, and the predictors that it returns."""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from core.clip.data.images import open_image
from core.clip.data.transforms import to_image
from core.clip.models.backbone import Backbone
from core.clip.models.features import IMAGE_BATCH_SIZE, image_features
from core.clip.prompts import class_prompts
from core.clip.training.conv_bn import fuse_conv_bn

MAX_CACHED_BYTES = 4_000_000_000
READERS = 4


def read_image(path: Path, backbone: Backbone, exact: bool = False) -> Image.Image:
    """Read an image upright and reduced, as the product does, or `exact` as stored, as the papers do."""
    if exact:
        with Image.open(path) as image:
            return image.convert("RGB")
    return open_image(path, shortest_side=2 * backbone.image_size)


@dataclass(frozen=True)
class Tests:
    """Test images, cached in memory after preprocessing if they fit, else read again."""

    backbone: Backbone
    paths: tuple[Path, ...]
    exact: bool = False

    def features(self, model: nn.Module) -> Tensor:
        """Return normalised features [N, D] on the model's device.

        BatchNorm is fused into the convolutions first, which is faster and computes the same function. The
        backbone's own network is copied before that.
        """
        if model is self.backbone.model:
            model = copy.deepcopy(model)
        fuse_conv_bn(model, self.backbone.image_size)
        return torch.cat([image_features(model, pixels) for pixels in self._batches()])

    @cached_property
    def stock_features(self) -> Tensor:
        """Features [N, D] of the pre-trained network, computed once."""
        return self.features(self.backbone.model)

    def _batches(self) -> Iterator[Tensor]:
        """Yield normalised batches [B, 3, S, S] on the CPU."""
        if len(self.paths) * 3 * self.backbone.image_size**2 * 4 < MAX_CACHED_BYTES:
            yield self._pixels
        else:
            for start in range(0, len(self.paths), 256):
                yield self._read(self.paths[start : start + 256])

    @cached_property
    def _pixels(self) -> Tensor:
        return self._read(self.paths)

    def _read(self, paths: Sequence[Path]) -> Tensor:
        def read(path: Path) -> Tensor:
            return self.backbone.preprocess(read_image(path, self.backbone, self.exact))

        with ThreadPoolExecutor(READERS) as threads:
            return torch.stack(list(threads.map(read, paths)))


class Predictor(Protocol):
    """An adapted network, with or without a classifier of its own."""

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        """Return the scores [N, C] in fp32 on the CPU, in units of the cosine (logits / logit_scale).

        Columns of classes that the method cannot predict are -inf.
        """
        ...


@dataclass(frozen=True)
class Task:
    """Labelled images of the trained classes, for one adaptation of one backbone."""

    backbone: Backbone
    """Backbone, shared between tasks: a method trains a copy."""
    tensors: Sequence[Tensor]
    """N images of any size, uint8 [3, H, W]."""
    labels: Sequence[int]
    """[N], indices into class_names."""
    class_names: Sequence[str]
    templates: Sequence[str] = ("a photo of a {}.",)
    seed: int = 0
    data: str = ""
    """Name of the data set."""

    def features(self, model: nn.Module) -> Tensor:
        """Return normalised features [N, D] of the images on the model's device."""
        parts = []
        for start in range(0, len(self.tensors), IMAGE_BATCH_SIZE):
            images = [to_image(tensor) for tensor in self.tensors[start : start + IMAGE_BATCH_SIZE]]
            parts.append(image_features(model, torch.stack([self.backbone.preprocess(i) for i in images])))
        return torch.cat(parts)

    def prompts(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the prompts of each class."""
        return [class_prompts(name, self.templates) for name in names]


class Method(Protocol):
    """One training and its predictors by label.

    FLYP returns "FLYP" and, with the ensemble of its weights and the stock weights, "FLYP + WiSE-FT".
    """

    def __call__(self, task: Task) -> dict[str, Predictor]: ...
