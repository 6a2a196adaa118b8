"""In-distribution score: similarity of an image to a trained class, by prompts and by shots.

Text features are shifted from image features in a common direction (modality gap: W. Liang et al., "Mind
the Gap", NeurIPS 2022). Any image is therefore about equally far from every class name. The mean feature
of a class's shots has no such gap. benchmarks/pages/trust.md compares this score with others.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import class_means


def in_distribution_score(
    features: Tensor, scores: Tensor, shot_features: Tensor, shot_labels: Tensor, classes: Sequence[int]
) -> Tensor:
    """Return [N]: the maximum over the candidates c of score_c + ⟨x, mean_c⟩.

    Args:
        features: [N, D] of the images, normalised.
        scores: [N, K], of the candidates by the rule of a closed request.
        shot_features: [S, D], normalised, from the same model.
        shot_labels: [S], trained classes.
        classes: [K], trained class of each candidate. A class without a shot in the support set uses the
            nearest mean of another class, so that its images are not rejected for this reason.
    """
    present, means = class_means(shot_features, shot_labels)
    near = features @ F.normalize(means, dim=-1).T  # [N, classes with shots]
    column = {label: i for i, label in enumerate(present.tolist())}
    nearest = near.amax(dim=1)
    own = torch.stack([near[:, column[c]] if c in column else nearest for c in classes], dim=1)  # [N, K]
    return (scores + own).amax(dim=1)
