"""Class scores of the stock model, the instant preview and the adapted model on held-out images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.clip.data.header import ImageLimits
from core.clip.errors import Cancelled
from core.clip.inference.class_offsets import NEW_CLASS
from core.clip.inference.in_distribution import in_distribution_score
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.inference.request_rule import RequestRule, request_rule
from core.clip.models.backbone import Backbone, tower_parameters, with_parameters
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.training.progress import Reporter
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet

CURVE = (0.0, 0.5, 1.0)
"""The α evaluated in addition to the model's own. Each additional α costs about 5% of the training."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassScores:
    """Scores of N images, in units of the cosine, by which the service ranks classes by default."""

    trained_only: Floats
    """[N, K], with the trained classes as candidates."""
    all_classes: Floats
    """[N, C], with all classes as candidates, the trained classes first."""
    new_only: Floats
    """[N, C − K], with the new classes as candidates."""
    in_distribution_score: Floats | None = None
    """[N] (`core.clip.inference.in_distribution`); None without a support set."""

    @classmethod
    def concatenate(cls, parts: Sequence["ClassScores"]) -> "ClassScores":
        """Concatenate the scores of several groups of images."""
        in_distribution = [s.in_distribution_score for s in parts if s.in_distribution_score is not None]
        return cls(
            np.concatenate([s.trained_only for s in parts]),
            np.concatenate([s.all_classes for s in parts]),
            np.concatenate([s.new_only for s in parts]),
            np.concatenate(in_distribution) if len(in_distribution) == len(parts) else None,
        )

    @classmethod
    def mean(cls, repeats: Sequence["ClassScores"]) -> "ClassScores":
        """Return the mean scores of the same images, without in-distribution scores."""
        return cls(
            np.mean([s.trained_only for s in repeats], axis=0),
            np.mean([s.all_classes for s in repeats], axis=0),
            np.mean([s.new_only for s in repeats], axis=0),
        )

    def __getitem__(self, rows: Sequence[int] | NDArray[np.int64]) -> "ClassScores":
        return ClassScores(
            self.trained_only[rows],
            self.all_classes[rows],
            self.new_only[rows],
            None if self.in_distribution_score is None else self.in_distribution_score[rows],
        )


@dataclass(frozen=True)
class Candidates:
    """The classes among which a prediction chooses."""

    names: tuple[str, ...]
    """Class names, the trained classes first."""
    trained: int
    """Number of trained classes."""
    prompts: tuple[tuple[str, ...], ...]
    """Prompts of each class."""

    @property
    def classes(self) -> list[int]:
        """Trained class of each name, or NEW_CLASS."""
        return [*range(self.trained), *[NEW_CLASS] * (len(self.names) - self.trained)]


@dataclass(frozen=True)
class HeldOutPredictions:
    """Class scores of N labelled images from models that were not trained on them."""

    candidates: Candidates
    positions: NDArray[np.int64]
    """[N], positions in the upload, training images first."""
    truth: NDArray[np.int64]
    """[N], indices of the candidates."""
    stock: ClassScores
    preview: ClassScores
    adapted: ClassScores | None
    """None if only the instant preview was evaluated."""
    curve: Mapping[float, ClassScores]
    """Class scores by α; empty if only the instant preview was evaluated."""
    images_per_fold_model: int | None = None
    """Training images per fold model; None if the N images are separate from the training images."""
    fold_models: int = 0
    """Number of fold models that made the predictions; 0 without cross-validation."""

    @classmethod
    def concatenate(cls, parts: Sequence["HeldOutPredictions"]) -> "HeldOutPredictions":
        """Concatenate the predictions of several fold models, each on its own fold."""
        return cls(
            candidates=parts[0].candidates,
            positions=np.concatenate([part.positions for part in parts]),
            truth=np.concatenate([part.truth for part in parts]),
            stock=ClassScores.concatenate([part.stock for part in parts]),
            preview=ClassScores.concatenate([part.preview for part in parts]),
            adapted=ClassScores.concatenate([part.adapted for part in parts if part.adapted is not None]),
            curve={
                alpha: ClassScores.concatenate([part.curve[alpha] for part in parts])
                for alpha in parts[0].curve
            },
            images_per_fold_model=parts[0].images_per_fold_model,
            fold_models=len(parts),
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
    stock_features: Tensor | None = None,
    reporter: Reporter,
    limits: ImageLimits = ImageLimits(),
) -> HeldOutPredictions:
    """Compute the class scores of the images from the stock model, the preview and the adapted model.

    The adapted model is evaluated at `alpha` and at each α of `CURVE`.

    Args:
        weights: stored weights of a model that was not trained on the images.
        preview: prototype classifier of the shots that the model was trained on.
        stock_features: [N, D] of the images, if already computed.

    Raises:
        BadImage: an image can't be read.
        Cancelled: the reporter requested a stop.
    """
    theta_0 = tower_parameters(backbone.model)
    adapted_alphas = sorted({*CURVE, alpha} - {0})
    networks = {each: with_parameters(backbone, weights.theta(theta_0, each)) for each in adapted_alphas}
    if stock_features is None:
        networks[0.0] = backbone.model
    features: dict[float, list[Tensor]] = {each: [] for each in networks}
    seen = 0
    for pixels in batches(backbone, sources, limits):
        if reporter.cancelled():
            raise Cancelled("The evaluation was cancelled.")
        for each, network in networks.items():
            features[each].append(image_features(network, pixels).cpu())
        seen += len(pixels)
        reporter.evaluated(seen / len(sources))
    stock = torch.cat(features[0.0]) if stock_features is None else stock_features

    def classifier_weights(network: nn.Module) -> Tensor:
        return build_zero_shot_classifier(network, backbone.tokenize, candidates.prompts).cpu()

    stock_weights = classifier_weights(backbone.model)
    scores = {0.0: cosine_scores(stock, stock_weights, candidates)}
    for each in adapted_alphas:
        if reporter.cancelled():
            raise Cancelled("The evaluation was cancelled.")
        classifier = classifier_weights(networks[each])
        adapted = torch.cat(features[each])
        scores[each] = balanced_scores(adapted, classifier, weights.shots, each, candidates)
    return HeldOutPredictions(
        candidates,
        np.asarray(positions),
        np.asarray(truth),
        scores[0.0],
        preview_scores(preview, stock, stock_weights, candidates),
        scores[alpha],
        {each: scores[each] for each in CURVE},
    )


def preview_scores(
    preview: PrototypeClassifier, features: Tensor, classifier_weights: Tensor, candidates: Candidates
) -> ClassScores:
    """Return the scores of the instant preview.

    Args:
        features: [N, D], of the stock model.
        classifier_weights: [C, D], of the stock model.
    """
    scores = _by_candidates(preview.rule, features, classifier_weights, candidates)
    return ClassScores(*(x.double().numpy() for x in scores))


def _by_candidates(
    rule: Callable[[Tensor, Sequence[int]], RequestRule],
    features: Tensor,
    classifier_weights: Tensor,
    candidates: Candidates,
) -> list[Tensor]:
    """Return the scores of the requests for the trained, all and the new classes."""
    classes, k = candidates.classes, candidates.trained
    return [
        rule(classifier_weights[of], classes[of]).scores(features)
        for of in (slice(k), slice(None), slice(k, None))
    ]


def cosine_scores(features: Tensor, classifier_weights: Tensor, candidates: Candidates) -> ClassScores:
    """Return plain cosines of the features [N, D] with the classifier weights [C, D]."""
    cosines = (features @ classifier_weights.T).double().numpy()
    return ClassScores(cosines[:, : candidates.trained], cosines, cosines[:, candidates.trained :])


def balanced_scores(
    features: Tensor,
    classifier_weights: Tensor,
    shots: SupportSet | None,
    alpha: float,
    candidates: Candidates,
) -> ClassScores:
    """Return the scores by the rule of each request, and the in-distribution scores.

    Without a support set or at α = 0 they are plain cosines.
    """
    if alpha == 0 or shots is None:
        return cosine_scores(features, classifier_weights, candidates)
    support = shots.at(alpha), shots.labels
    by_candidates = _by_candidates(partial(request_rule, support), features, classifier_weights, candidates)
    in_distribution = in_distribution_score(features, by_candidates[0], *support, range(candidates.trained))
    return ClassScores(*(x.double().numpy() for x in (*by_candidates, in_distribution)))
