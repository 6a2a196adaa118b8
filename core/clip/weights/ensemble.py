"""The weight ensemble, eq. 7 of CLIP-CITE (after WiSE-FT, arXiv 2109.01903)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.clip.weights.flat import empty_flat


def interpolate(
    theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Return θ(α) = α θ_1 + (1 − α) θ_0 for the parameters of both towers, as new tensors.

    In ASCII: `alpha * theta_1 + (1 - alpha) * theta_0`. α = 0 and α = 1 are bit-identical to θ_0 and θ_1.

    Raises:
        ValueError: the sets of names differ, or α is outside [0, 1].
    """
    if theta_0.keys() != theta_1.keys():
        odd = sorted(theta_0.keys() ^ theta_1.keys())
        raise ValueError(f"θ_0 and θ_1 hold different parameters, for example {odd[:3]}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha}.")
    if alpha in (0, 1):  # lerp would turn -0.0 into 0.0
        return {name: tensor.clone() for name, tensor in (theta_1 if alpha else theta_0).items()}
    theta = empty_flat(theta_0)
    with torch.no_grad():
        for name, before in theta_0.items():
            # θ_1 is loaded from a file onto the CPU, while θ_0 may be on a GPU.
            torch.lerp(before, theta_1[name].to(before.device), alpha, out=theta[name])
    return theta
