"""The test transform in two halves: what each picture needs by itself, and what a batch of them can have done
at once, with a quarter of the bytes between the two."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor


@dataclass(frozen=True)
class Pixels:
    """`finish(stack of fit)` is `preprocess` of each, bit by bit."""

    preprocess: Callable[[Image.Image], Tensor]
    """The whole: an RGB picture to fp32 [3, S, S]."""

    def fit(self, picture: Image.Image) -> Tensor:
        """Scaled and cut: uint8 [S, S, 3]; or the whole, where that is not made of halves."""
        if self._normalize is None:
            return self.preprocess(picture)
        for transform in self._transforms[:-2]:
            picture = transform(picture)
        return torch.from_numpy(np.array(picture))

    def finish(self, fitted: Tensor) -> Tensor:
        """[N, S, S, 3] as from `fit` to fp32 [N, 3, S, S], with the channels last, where `fitted` is."""
        normalize = self._normalize
        if normalize is None or fitted.dtype != torch.uint8:
            return fitted
        mean, std = (
            torch.tensor(values, device=fitted.device)[:, None, None]
            for values in (normalize.mean, normalize.std)
        )
        return fitted.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)

    @property
    def _transforms(self) -> list[Any]:
        return self.preprocess.transforms if isinstance(self.preprocess, Compose) else []

    @property
    def _normalize(self) -> Normalize | None:
        """The last transform, if the one before makes numbers of a picture."""
        match self._transforms:
            case [*_, ToTensor(), Normalize() as last]:
                return last
        return None
