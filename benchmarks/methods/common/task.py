"""What a method is given and what it must give back."""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from core.clip.data.images import open_image
from core.clip.data.transforms import to_tensor
from core.clip.models.backbone import Backbone
from core.clip.models.features import image_features
from core.clip.prompts import class_prompts
from core.clip.training.conv_bn import fuse_conv_bn

KEPT_BYTES = 4_000_000_000
READERS = 4


@dataclass(frozen=True)
class Tests:
    """Test images. Preprocessed they are kept in memory if they are few enough, else read again."""

    backbone: Backbone
    paths: tuple[Path, ...]

    def features(self, model: nn.Module) -> Tensor:
        """[N, D], normalised, on the model's device. A copy of the backbone's network is folded first:
        the same function, faster."""
        if model is self.backbone.model:
            model = copy.deepcopy(model)
        fuse_conv_bn(model, self.backbone.image_size)
        return torch.cat([image_features(model, pixels) for pixels in self._batches()])

    @cached_property
    def stock_features(self) -> Tensor:
        """[N, D] of the pre-trained network, computed once."""
        return self.features(self.backbone.model)

    def _batches(self) -> Iterator[Tensor]:
        """[B, 3, S, S] each, normalised, on the CPU."""
        if len(self.paths) * 3 * self.backbone.image_size**2 * 4 < KEPT_BYTES:
            yield self._pixels
        else:
            for start in range(0, len(self.paths), 256):
                yield self._read(self.paths[start : start + 256])

    @cached_property
    def _pixels(self) -> Tensor:
        return self._read(self.paths)

    def _read(self, paths: Sequence[Path]) -> Tensor:
        def read(path: Path) -> Tensor:
            return self.backbone.preprocess(open_image(path, shortest_side=2 * self.backbone.image_size))

        with ThreadPoolExecutor(READERS) as threads:
            return torch.stack(list(threads.map(read, paths)))


class Answerer(Protocol):
    """A network, or a network with a head, after its adaptation."""

    def similarities(self, tests: Tests, class_names: Sequence[str]) -> Tensor:
        """[N, C] on the CPU, fp32: cosines, or whatever the method ranks by, in units of the cosine
        (logits / logit_scale). -inf in the columns of names that the method can't answer."""
        ...


@dataclass(frozen=True)
class Task:
    """Labelled images of the trained classes, for one adaptation of one backbone."""

    backbone: Backbone
    """Shared: a method that trains it trains a copy."""
    images: Sequence[Image.Image]
    """N RGB images of any size."""
    labels: Sequence[int]
    """[N], indices into class_names."""
    class_names: Sequence[str]
    templates: Sequence[str] = ("a photo of a {}.",)
    seed: int = 0
    watch: Callable[[int, int, Answerer], None] | None = field(default=None, compare=False)
    """Called after every epoch with the epoch (from 1), the number of epochs and what the method would
    answer now, by methods whose training curve is of interest."""

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The images as uint8 [3, H, W], for random crops."""
        return [to_tensor(image) for image in self.images]

    def prompts(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """For each class name its sentences."""
        return [class_prompts(name, self.templates) for name in names]


class Method(Protocol):
    """One training, and what can be made of it by name: FLYP gives "FLYP" and, with the ensemble of
    its weights and the stock ones, "FLYP + WiSE-FT"."""

    def __call__(self, task: Task) -> dict[str, Answerer]: ...
