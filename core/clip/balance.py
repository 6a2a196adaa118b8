"""Trained names pull: fine-tuning raises their similarity with every picture, so that among all names
pictures of new classes are taken for trained ones. Calibrated stacking takes a constant γ off the
trained names (W.-L. Chao et al., ECCV 2016, arXiv 1605.04253). Their γ is chosen with pictures of new
classes; this one with none.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NEW_NAMES_BALANCE = 0.25
"""The default share, by evidence: benchmarks/README.md."""
SHOTS_KEPT = 128
"""A median over more says the same."""
KEPT_AT = (0.0, 0.5, 1.0)
"""The α at which the features of the shots are kept."""


def shots_at(kept: Tensor, alpha: float) -> Tensor:
    """Features [N, D] of the shots at any α, interpolated: within 3 % of the margin of the exact ones.

    Args:
        kept: [3, N, D], normalised, at KEPT_AT.
    """
    below = 0 if alpha < KEPT_AT[1] else 1
    weight = (alpha - KEPT_AT[below]) / (KEPT_AT[below + 1] - KEPT_AT[below])
    return F.normalize(torch.lerp(kept[below].float(), kept[below + 1].float(), weight), dim=-1)


def trained_names_penalty(
    shot_features: Tensor, head: Tensor, trained: Sequence[int], balance: float
) -> float:
    """γ in units of the cosine: `balance` times the margin by which the model's own shots prefer
    trained names over the new ones that are asked for (the median over the shots).

    A model that is sure of its trained classes has a wide margin, and much to give away before its own
    pictures are lost; new names that come near the trained ones leave a narrow one.

    Args:
        shot_features: [N, D], the trained pictures, normalised, from the network that made `head`.
        head: [C, D], the names that are asked for.
        trained: which of them are trained.
        balance: 0 are the paper's scores; at 1 half of the shots would no longer prefer a trained name.

    Returns:
        0 where all names are trained or all are new, or where the shots don't prefer trained names.
    """
    columns = set(trained)
    new = [c for c in range(len(head)) if c not in columns]
    if not columns or not new or not len(shot_features):
        return 0.0
    cosines = shot_features @ head.T  # [N, C]
    margins = cosines[:, sorted(columns)].amax(dim=1) - cosines[:, new].amax(dim=1)
    return max(0.0, balance * float(margins.median()))
