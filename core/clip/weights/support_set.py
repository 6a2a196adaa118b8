"""The trained pictures as a model keeps them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from core.clip.data.transforms import to_picture
from core.clip.inference.class_offsets import KEPT_AT, SHOTS_KEPT, KeptShots
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import image_features
from core.clip.weights.delta import Delta


def keep_shots(
    backbone: Backbone,
    delta: Delta,
    pictures: Sequence[Tensor],
    labels: Sequence[int],
    stock_features: Tensor | None = None,
) -> KeptShots:
    """What θ(α) makes of the trained pictures at the α of `KEPT_AT`.

    Args:
        pictures: N, uint8 [3, H, W]; of many, every second, third, … is taken.
        stock_features: [N, D], those at α = 0, if they are known.
    """
    every = math.ceil(len(pictures) / SHOTS_KEPT)
    chosen = pictures[::every]
    pixels = torch.stack([backbone.preprocess(to_picture(picture)) for picture in chosen])
    theta_0 = tower_parameters(backbone.model)
    features = [] if stock_features is None else [stock_features[::every]]
    for alpha in KEPT_AT[len(features) :]:
        network = with_parameters(backbone, delta.theta(theta_0, alpha))
        features.append(image_features(network, pixels).cpu())
    return KeptShots(torch.stack(features), torch.tensor(labels[::every]))
