"""The support set: features of the training images, stored with a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.clip.config import MAX_SUPPORT_SHOTS
from core.clip.data.splits import in_turns
from core.clip.data.transforms import to_image
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import image_features, prepared_batches
from core.clip.weights.delta import Delta

SUPPORT_ALPHAS = (0.0, 0.5, 1.0)
"""The α at which the features of the shots are stored."""


@dataclass(frozen=True)
class SupportSet:
    """Features and labels of the shots stored with a model."""

    features: Tensor
    """[3, N, D], normalised, from θ(α) at the α of SUPPORT_ALPHAS."""
    labels: Tensor
    """[N], indices of the trained classes."""

    def at(self, alpha: float) -> Tensor:
        """Interpolate the features [N, D] at any α; the error is below 3% of the margin."""
        below = 0 if alpha < SUPPORT_ALPHAS[1] else 1
        weight = (alpha - SUPPORT_ALPHAS[below]) / (SUPPORT_ALPHAS[below + 1] - SUPPORT_ALPHAS[below])
        nearest, next_one = self.features[below].float(), self.features[below + 1].float()
        return F.normalize(torch.lerp(nearest, next_one, weight), dim=-1)


def support_shots(labels: Sequence[int]) -> list[int]:
    """Return the ascending indices of the shots in a support set: all, or the first of each class."""
    return sorted(in_turns(labels)[: max(MAX_SUPPORT_SHOTS, len(set(labels)))])


def encode_support_set(
    backbone: Backbone,
    delta: Delta,
    images: Sequence[Tensor],
    labels: Sequence[int],
    stock_features: Tensor | None = None,
    *,
    up_to: float = 1.0,
    networks: Mapping[float, nn.Module] = MappingProxyType({}),
) -> SupportSet:
    """Encode the training images of `support_shots` with θ(α) at each α of `SUPPORT_ALPHAS`, in fp32.

    Class offsets from features in bf16 would change predictions.

    Args:
        images: N training images, uint8 [3, H, W].
        stock_features: [M, D], the features of the support shots at α = 0, if already computed.
        up_to: the highest α at which the result is used. Beyond it, the features repeat.
        networks: networks that exist already, by α.
    """
    chosen = support_shots(labels)
    theta_0 = tower_parameters(backbone.model)
    known = [] if stock_features is None else [stock_features]
    highest = next(alpha for alpha in SUPPORT_ALPHAS if alpha >= up_to)
    needed = [
        networks[alpha] if alpha in networks else with_parameters(backbone, delta.theta(theta_0, alpha))
        for alpha in SUPPORT_ALPHAS[len(known) :]
        if alpha <= highest
    ]
    encoded: list[list[Tensor]] = [[] for _ in needed]
    # Each image is prepared once for all networks. All pixels at once may need gigabytes.
    passes = prepared_batches(lambda i: backbone.preprocess(to_image(images[i])), chosen) if needed else ()
    for pixels in passes:
        for network, features in zip(needed, encoded, strict=True):
            features.append(image_features(network, pixels).cpu())
    at_alphas = [*known, *map(torch.cat, encoded)]
    at_alphas += at_alphas[-1:] * (len(SUPPORT_ALPHAS) - len(at_alphas))
    return SupportSet(torch.stack(at_alphas), torch.tensor([labels[i] for i in chosen]))
