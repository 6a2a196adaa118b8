"""Scores of a request by the printed formulas, on random features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from core.clip.inference.class_offsets import class_offsets


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


SHOTS = unit(9, 6, seed=0), torch.tensor([0, 0, 1, 2, 2, 2, 1, 0, 2])


TEXTS, IMAGES = unit(5, 6, seed=1), unit(20, 6, seed=2)


def slow_closed_scores(
    texts: Tensor,
    classes: list[int],
    shots: tuple[Tensor, Tensor] = SHOTS,
    balance: float = 0.35,
    text_counts_as: float = 3,
    preview: bool = False,
) -> Tensor:
    """Score IMAGES by the formulas of docs/reference/method.md, class by class, without the prior."""
    features, labels = shots
    known = sorted(set(labels.tolist()))
    of = {c: features[labels == c] for c in known}
    prototypes = {c: rows.mean(dim=0) / rows.mean(dim=0).norm() for c, rows in of.items()}
    middle = sum(prototypes.values()) / len(known)
    n = len(of) / sum(1 / len(rows) for rows in of.values())
    weights = []
    for text, c in zip(texts, classes, strict=True):
        row = text + n / (n + text_counts_as) * (prototypes[c] - middle)
        weights.append(row / row.norm())
    scores = IMAGES @ torch.stack(weights).T
    scores = scores - class_offsets(*shots, torch.stack(weights), classes, balance)
    if len(set(classes)) < 2 or len(features) == len(known):
        return scores

    means = {c: rows.mean(dim=0) for c, rows in of.items()}
    mean = sum(means.values()) / len(known)
    covariance = torch.zeros(features.shape[1], features.shape[1])
    for c, rows in of.items():
        for x in rows:
            covariance += torch.outer(x - means[c], x - means[c])
    covariance += covariance.trace() / len(covariance) * torch.eye(len(covariance))
    inverse = torch.linalg.inv(covariance)
    noise = features.shape[1] / 2 / (len(features) - len(known)) if preview else 0

    def discriminants(x: Tensor) -> Tensor:
        values = torch.stack(
            [
                (x - mean - (means[c] - mean) / 2) @ inverse @ (means[c] - mean) + noise / len(of[c]) / 2
                for c in classes
            ]
        )
        return values - values.mean()

    cosines = torch.stack([texts @ x - (texts @ x).mean() for x in features])
    spread = cosines.std() / torch.stack([discriminants(x) for x in features]).std()
    w = 3 * n / (n + 3)
    return (scores + w * spread * torch.stack([discriminants(x) for x in IMAGES])) / (1 + w)
