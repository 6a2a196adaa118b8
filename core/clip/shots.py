"""The trained pictures as a model keeps them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from core.clip.backbone import Backbone, tower_parameters, with_parameters
from core.clip.balance import KEPT_AT, SHOTS_KEPT, KeptShots
from core.clip.delta import Delta
from core.clip.transforms import to_picture
from core.clip.zero_shot import PICTURES_AT_ONCE, image_features


def keep_shots(
    backbone: Backbone, delta: Delta, pictures: Sequence[Tensor], labels: Sequence[int]
) -> KeptShots:
    """What θ(α) makes of the trained pictures at the α of `KEPT_AT`.

    Args:
        pictures: uint8 [3, H, W]; of many, every second, third, … is taken.
    """
    every = math.ceil(len(pictures) / SHOTS_KEPT)
    chosen = pictures[::every]
    pixels = torch.stack([backbone.preprocess(to_picture(picture)) for picture in chosen])
    theta_0 = tower_parameters(backbone.model)
    networks = (with_parameters(backbone, delta.theta(theta_0, alpha)) for alpha in KEPT_AT)
    features = torch.stack([image_features(network, pixels).cpu() for network in networks])
    return KeptShots(features, torch.tensor(labels[::every]))


def stock_features(backbone: Backbone, pictures: Sequence[Tensor]) -> Tensor:
    """[N, D] of all pictures, uint8 [3, H, W], in bounded memory."""
    chunks = []
    for start in range(0, len(pictures), PICTURES_AT_ONCE):
        part = pictures[start : start + PICTURES_AT_ONCE]
        pixels = torch.stack([backbone.preprocess(to_picture(picture)) for picture in part])
        chunks.append(image_features(backbone.model, pixels).cpu())
    return torch.cat(chunks)
