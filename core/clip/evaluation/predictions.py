"""What stock, preview and adapted networks make of images that they were not trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.clip.data.images import ImageLimits
from core.clip.errors import Cancelled
from core.clip.inference.class_offsets import NEW_CLASS, NEW_CLASS_BALANCE, class_offsets
from core.clip.inference.in_distribution import in_distribution_score
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.training.progress import Reporter
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet

CURVE = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The α that are looked at beside the model's own."""
CROSS_VALIDATION_CURVE = (0.0, 0.5, 1.0)
"""Of siblings: each more costs a twentieth of the training."""
CURVE_IMAGES = 200
"""More test images are measured at the model's own α only."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassScores:
    """What N images are ranked by, in units of the cosine, as the service ranks them by default."""

    trained_only: Floats
    """[N, K], only the trained names are candidates."""
    all_classes: Floats
    """[N, C], all names are, the trained ones first."""
    in_distribution_score: Floats | None = None
    """[N], with a trained class (`core.clip.inference.in_distribution`); None where no shots are known."""

    def __getitem__(self, rows: Sequence[int] | NDArray[np.int64]) -> "ClassScores":
        return ClassScores(
            self.trained_only[rows],
            self.all_classes[rows],
            None if self.in_distribution_score is None else self.in_distribution_score[rows],
        )


@dataclass(frozen=True)
class Candidates:
    names: tuple[str, ...]
    """The trained ones first."""
    trained: int
    """How many of them."""
    prompts: tuple[tuple[str, ...], ...]
    """For each name its sentences."""

    @property
    def classes(self) -> list[int]:
        """For each name its trained class, or NEW."""
        return [*range(self.trained), *[NEW_CLASS] * (len(self.names) - self.trained)]


@dataclass(frozen=True)
class HeldOutPredictions:
    """N labelled images that the networks which answered were not trained on."""

    candidates: Candidates
    positions: NDArray[np.int64]
    """[N], which images: places in the upload, training images first."""
    truth: NDArray[np.int64]
    """[N], indices of names."""
    stock: ClassScores
    preview: ClassScores
    adapted: ClassScores | None
    """None where only previews were measured."""
    curve: Mapping[float, ClassScores]
    """By α, of the images `on_curve`."""
    on_curve: NDArray[np.int64]
    """[M], places among the N."""
    images_per_fold_model: int | None = None
    """How many images of the same draw each network was trained on; None: these are apart from them."""

    @classmethod
    def joined(cls, parts: Sequence["HeldOutPredictions"]) -> "HeldOutPredictions":
        """The answers of several siblings to images of their own."""

        def stacked(answers: Sequence[ClassScores]) -> ClassScores:
            scores = [a.in_distribution_score for a in answers if a.in_distribution_score is not None]
            return ClassScores(
                np.concatenate([a.trained_only for a in answers]),
                np.concatenate([a.all_classes for a in answers]),
                np.concatenate(scores) if len(scores) == len(answers) else None,
            )

        starts = np.cumsum([0, *(len(part.truth) for part in parts[:-1])])
        return cls(
            candidates=parts[0].candidates,
            positions=np.concatenate([part.positions for part in parts]),
            truth=np.concatenate([part.truth for part in parts]),
            stock=stacked([part.stock for part in parts]),
            preview=stacked([part.preview for part in parts]),
            adapted=stacked([part.adapted for part in parts if part.adapted is not None]),
            curve={alpha: stacked([part.curve[alpha] for part in parts]) for alpha in parts[0].curve},
            on_curve=np.concatenate(
                [start + part.on_curve for start, part in zip(starts, parts, strict=True)]
            ),
            images_per_fold_model=parts[0].images_per_fold_model,
        )


def predict(
    backbone: Backbone,
    weights: Weights,
    candidates: Candidates,
    preview: PrototypeClassifier,
    sources: Sequence[bytes | Path],
    truth: Sequence[int],
    positions: Sequence[int],
    *,
    alpha: float,
    curve: Sequence[float],
    curve_images: int = CURVE_IMAGES,
    stock_features: Tensor | None = None,
    reporter: Reporter,
    limits: ImageLimits = ImageLimits(),
) -> HeldOutPredictions:
    """Show the images to all networks.

    Args:
        weights: of the network that was not trained on them, as they are or would be stored.
        preview: of the shots that it was trained on.
        stock_features: [N, D] of the images, if they are known.
        curve: the α to look at beside `alpha`, with at most `curve_images` of the images, evenly spread.

    Raises BadImage, or Cancelled.
    """
    model = _at(backbone, weights, alpha)
    every = max(1, -(-len(sources) // curve_images))
    on_curve = np.arange(0, len(sources), every)
    features: tuple[list[Tensor], list[Tensor]] = ([], [])
    kept: list[Tensor] = []
    seen = 0
    of_an_image = 1 if stock_features is not None else 2
    others = [other for other in curve if other not in (0, alpha)]
    to_look = of_an_image * len(sources) + len(others) * len(on_curve)
    for pixels in batches(backbone, sources, limits):
        _go_on(reporter)
        if stock_features is None:
            features[0].append(image_features(backbone.model, pixels).cpu())
        features[1].append(image_features(model, pixels).cpu())
        if curve and len(chosen := pixels[(-seen) % every :: every]):
            kept.append(chosen)
        seen += len(pixels)
        reporter.progressed(of_an_image * seen / to_look)
    of_stock = torch.cat(features[0]) if stock_features is None else stock_features
    of_adapted = torch.cat(features[1])
    stock_weights, classifier_weights = (
        _classifier_weights(network, backbone, candidates) for network in (backbone.model, model)
    )
    of_curve: dict[float, ClassScores] = {}
    for other in curve:
        _go_on(reporter)
        if other == alpha:
            of_curve[other] = balanced_scores(
                of_adapted[on_curve], classifier_weights, weights.shots, other, candidates
            )
        elif other == 0:
            of_curve[other] = cosine_scores(of_stock[on_curve], stock_weights, candidates)
        else:
            network = _at(backbone, weights, other)
            seen_by_it = torch.cat([image_features(network, pixels).cpu() for pixels in kept])
            other_weights = _classifier_weights(network, backbone, candidates)
            of_curve[other] = balanced_scores(seen_by_it, other_weights, weights.shots, other, candidates)
            done = of_an_image * seen + (others.index(other) + 1) * len(on_curve)
            reporter.progressed(done / to_look)
    return HeldOutPredictions(
        candidates,
        np.asarray(positions),
        np.asarray(truth),
        cosine_scores(of_stock, stock_weights, candidates),
        preview_scores(preview, of_stock, stock_weights, candidates),
        balanced_scores(of_adapted, classifier_weights, weights.shots, alpha, candidates),
        of_curve,
        on_curve if curve else np.arange(0),
    )


def preview_scores(
    preview: PrototypeClassifier, features: Tensor, classifier_weights: Tensor, candidates: Candidates
) -> ClassScores:
    """What the preview makes of stock features [N, D]; `classifier_weights` [C, D] is stock too."""
    k, classes = candidates.trained, candidates.classes
    ranked = []
    for names in (k, len(classes)):
        cosines, offsets = preview.cosines(features, classifier_weights[:names], classes[:names])
        ranked.append((cosines - offsets).double().numpy())
    return ClassScores(*ranked)


def _at(backbone: Backbone, weights: Weights, alpha: float) -> nn.Module:
    if alpha == 0:
        return backbone.model
    return with_parameters(backbone, weights.theta(tower_parameters(backbone.model), alpha))


def _classifier_weights(network: nn.Module, backbone: Backbone, candidates: Candidates) -> Tensor:
    return build_zero_shot_classifier(network, backbone.tokenize, candidates.prompts).cpu()


def cosine_scores(features: Tensor, classifier_weights: Tensor, candidates: Candidates) -> ClassScores:
    """What a network makes of its features [N, D] and [C, D] without more ado."""
    cosines = (features @ classifier_weights.T).double().numpy()
    return ClassScores(cosines[:, : candidates.trained], cosines)


def balanced_scores(
    features: Tensor,
    classifier_weights: Tensor,
    shots: SupportSet | None,
    alpha: float,
    candidates: Candidates,
) -> ClassScores:
    if alpha == 0 or shots is None:
        return cosine_scores(features, classifier_weights, candidates)
    kept = shots.at(alpha)
    alone, among = (
        features @ classifier_weights[:names].T
        - class_offsets(
            kept, shots.labels, classifier_weights[:names], candidates.classes[:names], NEW_CLASS_BALANCE
        )
        for names in (candidates.trained, len(candidates.names))
    )
    alike = in_distribution_score(features, alone, kept, shots.labels, range(candidates.trained))
    return ClassScores(*(x.double().numpy() for x in (alone, among, alike)))


def _go_on(reporter: Reporter) -> None:
    if reporter.cancelled():
        raise Cancelled("The measuring was cancelled.")
