"""How much an image looks like one of the trained classes: like its name, and like its own images.

The features of prompts lie away from those of images, all in one direction (W. Liang et al., "Mind the Gap",
NeurIPS 2022), so that an image of anything is about as far from every name. The mean of the images that a
class was trained on lies where images do. Rules that were compared: "Trust" in benchmarks/README.md.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def in_distribution_score(
    features: Tensor, ranked: Tensor, shot_features: Tensor, shot_labels: Tensor, classes: Sequence[int]
) -> Tensor:
    """[N]: max_c of ⟨x, text_c⟩ − offset_c + ⟨x, mean_c⟩, over the names that are asked for.

    Args:
        features: [N, D] of the images, normalised.
        ranked: [N, K], the cosines with the names less the offsets of those.
        shot_features: [S, D], normalised, from the same network; shot_labels: [S].
        classes: [K], for each name its trained class. Of many classes one may have no shot that was kept: its
            images are compared with the nearest class that has, so that they aren't rejected for that.
    """
    present = shot_labels.unique()
    means = torch.stack([shot_features[shot_labels == label].mean(dim=0) for label in present])
    near = features @ F.normalize(means, dim=-1).T  # [N, classes that have shots]
    column = {label: i for i, label in enumerate(present.tolist())}
    nearest = near.amax(dim=1)
    own = torch.stack([near[:, column[c]] if c in column else nearest for c in classes], dim=1)  # [N, K]
    return (ranked + own).amax(dim=1)
