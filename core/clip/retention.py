"""What an adaptation has changed where nothing was trained, along α."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.clip.answers import CURVE
from core.clip.backbone import Backbone, tower_parameters, with_parameters
from core.clip.errors import Cancelled
from core.clip.probe import drawn_pictures, other_names
from core.clip.progress import Reporter
from core.clip.prompts import class_texts
from core.clip.weights import Weights
from core.clip.zero_shot import image_features, text_head


@dataclass(frozen=True)
class Kept:
    """One α against the stock network, on names and pictures that ship with the software."""

    alpha: float
    text_similarity: float
    """Mean cosine of the text features of 50 of ImageNet's names with those of the stock network."""
    agreement: float
    """Share of the 24 drawn pictures that get the same of these names."""


def what_was_kept(
    backbone: Backbone,
    weights: Weights,
    class_names: Sequence[str],
    templates: Sequence[str],
    reporter: Reporter,
    alphas: Sequence[float] = CURVE,
) -> list[Kept]:
    """Of the published network, for each α."""
    texts = [class_texts(name, templates) for name in other_names(class_names)]
    pixels = torch.stack([backbone.preprocess(picture) for picture in drawn_pictures()])
    stock_head, stock_features = _seen_by(backbone.model, backbone, texts, pixels)
    stock_answers = (stock_features @ stock_head.T).argmax(dim=1)
    kept = []
    for alpha in alphas:
        if reporter.cancelled():
            raise Cancelled("The measuring was cancelled.")
        if alpha == 0:
            kept.append(Kept(0.0, 1.0, 1.0))
            continue
        network = with_parameters(backbone, weights.theta(tower_parameters(backbone.model), alpha))
        head, features = _seen_by(network, backbone, texts, pixels)
        reporter.progressed((len(kept) + 1) / len(alphas))
        same = (features @ head.T).argmax(dim=1) == stock_answers
        kept.append(Kept(alpha, float((head * stock_head).sum(dim=1).mean()), float(same.float().mean())))
    return kept


def _seen_by(
    network: nn.Module, backbone: Backbone, texts: Sequence[Sequence[str]], pixels: Tensor
) -> tuple[Tensor, Tensor]:
    return text_head(network, backbone.tokenize, texts).cpu(), image_features(network, pixels).cpu()
