"""What every name gets for free, and trained names most of all.

Some names look a little like every image (hubs), and fine-tuning raises the similarity of the trained
names with every image, so that among all names images of new classes are taken for trained ones.
Calibrated stacking takes a constant γ off the trained names (W.-L. Chao et al., ECCV 2016, arXiv
1605.04253), chosen with images of new classes. Here each name has an offset of its own, and what it
is comes from the model's own shots alone: no image of a new class is asked for.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

NEW_CLASS_BALANCE = 0.35
"""The default, by evidence: benchmarks/README.md."""
NEW_CLASS = -1
"""The class of a name that was not trained."""


def class_offsets(
    shot_features: Tensor, labels: Tensor, classifier_weights: Tensor, classes: Sequence[int], balance: float
) -> Tensor:
    """What is to be taken off the cosines of each name before the softmax, [C].

    1. Twice `balance` (at most all) of what a name gets for free: its mean cosine with the shots of
       other classes than its own, each class counting alike. For a new name those are all shots.
    2. For trained names also `balance` times the margin by which the shots then prefer them over the new
       names of the request (the median over the shots). A model that is sure of its classes has a wide
       margin, and much to give away before its own images are lost; new names that come near the
       trained ones leave a narrow one.

    Args:
        shot_features: [N, D], normalised, from the network that made `classifier_weights`.
        labels: [N], of which trained class each shot is.
        classifier_weights: [C, D], the names that are asked for.
        classes: for each name its trained class, or NEW.
        balance: 0 are the paper's scores; at 1 half of the shots would no longer prefer a trained name.
    """
    if not len(labels) or balance == 0:
        return classifier_weights.new_zeros(len(classifier_weights))
    class_of = torch.tensor(classes, device=classifier_weights.device)  # [C]
    present = labels.unique()
    means = torch.stack([shot_features[labels == label].mean(dim=0) for label in present])  # [K, D]
    others = (present[:, None] != class_of[None, :]).float()  # [K, C]
    free = (means @ classifier_weights.T * others).sum(dim=0) / others.sum(dim=0).clamp(min=1)  # [C]
    offsets: Tensor = min(1.0, 2 * balance) * free

    trained = class_of != NEW_CLASS
    if trained.any() and not trained.all():
        cosines = shot_features @ classifier_weights.T - offsets  # [N, C]
        margins = cosines[:, trained].amax(dim=1) - cosines[:, ~trained].amax(dim=1)
        offsets = offsets + trained * balance * margins.median().clamp(min=0)
    return offsets
