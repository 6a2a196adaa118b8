"""Linear discriminants of a support set."""

import torch
from torch import Tensor


def linear_discriminants(
    features: Tensor, labels: Tensor, *, untrained: bool = False
) -> tuple[Tensor, Tensor] | None:
    """Return weights [K, D] and biases [K] of Fisher's discriminants, up to a common factor.

    Discriminant c of x is ⟨Σ⁻¹ (μ_c − μ), x − μ⟩ − ½ ⟨Σ⁻¹ (μ_c − μ), μ_c − μ⟩, with the class means μ_c,
    their mean μ and the pooled covariance Σ within the classes. Directions in which images of the same class
    differ count less. With fewer shots than dimensions Σ is singular, so its mean variance is added to its
    diagonal. Z. Wang et al. use such a classifier for CLIP ("A Hard-to-Beat Baseline for Training-free
    CLIP-based Adaptation", ICLR 2024, arXiv 2402.04087).

    Args:
        features: [S, D], float32.
        labels: [S], of K classes.
        untrained: the network was not trained on the shots. Then d / 2n_c is added. The noise in the mean of
            n_c shots adds d / n_c to ⟨Σ⁻¹ (μ_c − μ), μ_c − μ⟩, so a class would otherwise lose by having few
            images. A network that was trained on the shots brings those of a class together, so this would
            be too much. There `pile.less_prior` makes up for few images.

    Returns:
        Rows in the order of the sorted labels, or None if the shots within each class do not differ.
    """
    classes, place, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(classes), features.shape[1]).index_add_(0, place, features)
    means = sums / counts[:, None]
    mean = means.mean(dim=0)
    centred = means - mean
    residuals = features - means[place]
    variance = residuals.square().sum() / features.shape[1]
    if float(variance) < 1e-12:
        return None
    identity = torch.eye(min(features.shape), dtype=features.dtype, device=features.device)
    if len(features) < features.shape[1]:
        # (RᵀR + v I)⁻¹ M = (M − Rᵀ (R Rᵀ + v I)⁻¹ R M) / v: S equations instead of D.
        solved = torch.linalg.solve(residuals @ residuals.T + variance * identity, residuals @ centred.T)
        weights = (centred - solved.T @ residuals) / variance
    else:
        weights = torch.linalg.solve(residuals.T @ residuals + variance * identity, centred.T).T
    biases = -((0.5 * centred + mean) * weights).sum(dim=1)
    if untrained:
        # RᵀR + v I has twice the trace of RᵀR, so it estimates 2 (S − K) Σ. Equal classes need no correction.
        noise = features.shape[1] / 2 / (len(features) - len(classes)) * (1 / counts - 1 / counts.max())
        biases += 0.5 * noise
    return weights, biases
