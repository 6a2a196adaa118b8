"""Class offsets that balance new classes against trained ones.

Some class names are similar to every image (hubs). Fine-tuning also raises the similarity of the trained
classes with every image, so images of new classes are predicted as trained ones. Calibrated stacking
(W.-L. Chao et al., ECCV 2016, arXiv 1605.04253) subtracts a constant γ from the trained classes, chosen
with images of new classes. Here each class has its own offset. It is estimated only from the support set, so
images of new classes are not needed.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LEVEL_SHARES: Mapping[int, float] = {1: 0.2, 2: 0.4, 3: 0.6}
"""Weight of the first term of `class_offsets` in a mixed request, by number of trained classes. From four
classes on it is 1.

benchmarks/pages/requests.md has the measurements.
"""
NEW_CLASS = -1
"""Class index of a new class."""


def class_means(shot_features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels [K] of shots [N, D], and the mean [K, D] of each label, not normalised."""
    present = labels.unique()
    return present, torch.stack([shot_features[labels == label].mean(dim=0) for label in present])


def class_offsets(
    shot_features: Tensor,
    labels: Tensor,
    classifier_weights: Tensor,
    classes: Sequence[int],
    balance: float,
) -> Tensor:
    """Return the offsets [C] to subtract from the cosines of each class before the softmax.

    1. Every class: min(1, 2 `balance`) times its mean cosine with the shots of other classes, each class
       weighted equally. For a new class these are all shots. With trained and new classes, it counts less
       (`LEVEL_SHARES`) if the shots have few classes: then a new class is similar to them because it
       resembles one of these classes, not because it is a hub.
    2. Trained classes: additionally `balance` times the median margin by which the shots then prefer the
       trained classes over the new ones. A confident model has a wide margin and can give more away
       before its own images are lost. New classes similar to the trained ones leave a narrow margin.

    Args:
        shot_features: [N, D], normalised, from the model that computed `classifier_weights`.
        labels: [N], trained class of each shot.
        classifier_weights: [C, D], of the candidate classes.
        classes: trained class of each candidate, or NEW_CLASS.
        balance: strength of the offsets. 0 gives the paper's scores. At 1, half of the shots no longer prefer
            a trained class.
    """
    class_of = torch.tensor(classes, device=classifier_weights.device)  # [C]
    present, means = class_means(shot_features, labels)
    others = (present[:, None] != class_of[None, :]).float()  # [K, C]
    baseline = (means @ classifier_weights.T * others).sum(dim=0) / others.sum(dim=0).clamp(min=1)  # [C]
    trained = class_of != NEW_CLASS
    is_mixed = bool(trained.any()) and not trained.all()
    share = LEVEL_SHARES.get(len(present), 1.0) if is_mixed else 1.0
    offsets: Tensor = share * min(1.0, 2 * balance) * baseline

    if is_mixed:
        cosines = shot_features @ classifier_weights.T - offsets  # [N, C]
        margins = cosines[:, trained].amax(dim=1) - cosines[:, ~trained].amax(dim=1)
        offsets = offsets + trained * balance * margins.median().clamp(min=0)
    return offsets
