"""Class scores of the stock model and the adapted model on held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clipcite.types.images import Image
from core.clip.errors import Cancelled
from core.clip.evaluation.context import EvalContext
from core.clip.inference import pile
from core.clip.inference.request_rule import adapted_rule
from core.clip.inference.untrained import unrelated
from core.clip.models.backbone import tower_parameters, with_parameters
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.prompts import Candidates
from core.clip.training.progress import Reporter
from core.clip.weights.files import Weights
from core.clip.weights.support_set import SupportSet

Floats = NDArray[np.float64]
FALSE_REJECTION_RATES = (0.01, pile.FALSE_REJECTION_RATE, 0.1, 0.2)
"""Expected shares of new images of the classes below the limits of `something_else` in the report."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of N images, in units of the cosine. By default the service ranks classes by them."""

    trained_only: Floats
    """[N, K], with the trained classes as candidates."""
    all_classes: Floats
    """[N, C], with all classes as candidates, the trained classes first."""
    new_only: Floats
    """[N, C − K], with the new classes as candidates."""

    @classmethod
    def concatenate(cls, parts: Sequence["ClassScores"]) -> "ClassScores":
        """Concatenate the scores of several groups of images."""
        return cls(
            np.concatenate([s.trained_only for s in parts]),
            np.concatenate([s.all_classes for s in parts]),
            np.concatenate([s.new_only for s in parts]),
        )

    def as_before(
        self, stock: "ClassScores", unlike: NDArray[np.bool_], unrelated: NDArray[np.bool_]
    ) -> "ClassScores":
        """Return these scores, with those of the pre-trained model for what the model was not trained for.

        Args:
            unlike: [N], images unlike the training images.
            unrelated: [C], names unlike the trained names.
        """
        k = self.trained_only.shape[1]
        pairs = (
            (self.all_classes, stock.all_classes, unrelated),
            (self.new_only, stock.new_only, unrelated[k:]),
        )
        return ClassScores(
            self.trained_only,
            *(
                np.where((unlike & names[plain.argmax(axis=1)])[:, None], plain, own) if len(names) else own
                for own, plain, names in pairs
            ),
        )

    def __getitem__(self, rows: Sequence[int] | NDArray[np.int64]) -> "ClassScores":
        return ClassScores(self.trained_only[rows], self.all_classes[rows], self.new_only[rows])


@dataclass(frozen=True)
class HeldOutPredictions:
    """Class scores of N labelled images, from models that were not trained on them. N may be 0."""

    candidates: Candidates
    positions: NDArray[np.int64]
    """[N], positions in the upload, training images first."""
    truth: NDArray[np.int64]
    """[N], indices of the candidates."""
    stock: ClassScores
    adapted: ClassScores
    known: NDArray[np.bool_] | None = None
    """[N, R] for R `FALSE_REJECTION_RATES`: whether an image is above the limit. None without limits."""
    images_per_fold_model: int | None = None
    """Training images per fold model, a burst counted as one; None without cross-validation."""
    fold_models: int = 0
    """Number of fold models that made the predictions; 0 without cross-validation."""

    def __getitem__(self, rows: NDArray[np.int64]) -> "HeldOutPredictions":
        return replace(
            self,
            positions=self.positions[rows],
            truth=self.truth[rows],
            stock=self.stock[rows],
            adapted=self.adapted[rows],
            known=None if self.known is None else self.known[rows],
        )

    @classmethod
    def none(cls, candidates: Candidates) -> "HeldOutPredictions":
        """Return the predictions on no images."""
        nothing = np.zeros(0, dtype=np.int64)
        scores = cosine_scores(torch.zeros(0, 1), torch.zeros(len(candidates.names), 1), candidates)
        return cls(candidates, nothing, nothing, scores, scores)

    @classmethod
    def concatenate(cls, parts: Sequence["HeldOutPredictions"]) -> "HeldOutPredictions":
        """Concatenate the predictions of several fold models, each on its own fold."""
        return cls(
            candidates=parts[0].candidates,
            positions=np.concatenate([part.positions for part in parts]),
            truth=np.concatenate([part.truth for part in parts]),
            stock=ClassScores.concatenate([part.stock for part in parts]),
            adapted=ClassScores.concatenate([part.adapted for part in parts]),
            known=None
            if any(part.known is None for part in parts)
            else np.concatenate([part.known for part in parts if part.known is not None]),
            images_per_fold_model=parts[0].images_per_fold_model,
            fold_models=len(parts),
        )


def predict(
    context: EvalContext,
    weights: Weights,
    candidates: Candidates,
    images: Sequence[Image],
    truth: Sequence[int],
    positions: Sequence[int],
    reporter: Reporter,
    *,
    network: nn.Module | None = None,
    stock_features: Tensor | None = None,
    stock_texts: Tensor | None = None,
) -> HeldOutPredictions:
    """Compute the class scores of the images from the stock model and the adapted model.

    The adapted model is evaluated at the α of the settings.

    Args:
        weights: stored weights of a model that was not trained on the images.
        network: the network of `weights` at this α, if it exists already.
        stock_features: [N, D] of the images, if already computed.
        stock_texts: [C, D] of the candidates, by the stock model, if already computed.

    Raises:
        BadImage: an image can't be read.
        Cancelled: the reporter requested a stop.
    """
    backbone, alpha = context.backbone, context.config.alpha
    stock = backbone.model
    adapted = network or with_parameters(backbone, weights.theta(tower_parameters(stock), alpha))
    features: list[Tensor] = []
    of_stock = [] if stock_features is None else [stock_features]
    seen = 0
    for pixels in batches(backbone, images, context.limits):
        if reporter.cancelled():
            raise Cancelled("The evaluation was cancelled.")
        features.append(image_features(adapted, pixels).cpu())
        if stock_features is None:
            of_stock.append(image_features(stock, pixels).cpu())
        seen += len(pixels)
        reporter.advance(seen / len(images))

    def classifier(network: nn.Module) -> Tensor:
        if reporter.cancelled():
            raise Cancelled("The evaluation was cancelled.")
        return build_zero_shot_classifier(network, backbone.tokenize, candidates.prompts).cpu()

    texts = classifier(stock) if stock_texts is None else stock_texts
    of_adapted, scale = torch.cat(features), backbone.logit_scale
    stock_scores = cosine_scores(torch.cat(of_stock), texts, candidates)
    adapted_scores = balanced_scores(of_adapted, classifier(adapted), weights.shots, alpha, candidates, scale)
    support = None if weights.shots is None else support_of(weights.shots, alpha)
    foreign = None if support is None or alpha == 0 else pile.Foreign.of(support)
    if foreign is not None:
        names = unrelated(texts, texts[: candidates.trained]).numpy()
        adapted_scores = adapted_scores.as_before(stock_scores, foreign(of_adapted.numpy()), names)
    limits = rejection_limits(weights.shots, alpha)
    if limits is None:
        known = None
    else:
        known = pile.alone(limits.support, of_adapted.numpy()).score[:, None] >= limits.at
    return HeldOutPredictions(
        candidates, np.asarray(positions), np.asarray(truth), stock_scores, adapted_scores, known
    )


@dataclass(frozen=True)
class RejectionLimits:
    """Limits of `something_else` for single images, from a model's training images."""

    support: pile.Support
    at: NDArray[np.float32]
    """[len(FALSE_REJECTION_RATES)], the limit for each expected share of lost images."""


def rejection_limits(shots: SupportSet | None, alpha: float) -> RejectionLimits | None:
    """Return the limits, by each training image against the others of its class. None if no class has two."""
    if shots is None:
        return None
    support = support_of(shots, alpha)
    left_out = support.near_left_out
    if not len(left_out):
        return None
    limits = [pile.rejection_limit(left_out, rate) for rate in FALSE_REJECTION_RATES]
    return RejectionLimits(support, np.array(limits, np.float32))


def support_of(shots: SupportSet, alpha: float) -> pile.Support:
    return pile.Support.of(shots.at(alpha).numpy(), shots.labels.numpy())


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
    logit_scale: float,
) -> ClassScores:
    """Return the scores by the rules of requests (`request_rule`).

    Without a support set, or at α = 0, they are plain cosines.
    """
    if alpha == 0 or shots is None:
        return cosine_scores(features, classifier_weights, candidates)
    support = shots.at(alpha), shots.labels
    classes, k = candidates.classes, candidates.trained
    return ClassScores(
        *(
            adapted_rule(support, classifier_weights[of], classes[of], logit_scale)
            .scores(features)
            .double()
            .numpy()
            for of in (slice(k), slice(None), slice(k, None))
        )
    )
