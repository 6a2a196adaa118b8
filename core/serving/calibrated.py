"""What a model knows of its own confidence, laid over an answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.clip.inference.calibration import Calibration
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.inference.classifier import Scores
from core.clip.inference.in_distribution import in_distribution_score
from core.clip.prompts import same_class
from core.errors import ClipCiteError
from core.store.db.tables import Model


@dataclass(frozen=True)
class Judged:
    """What is known of N answers; `scores` have calibrated probabilities."""

    known: Calibration
    scores: Scores
    in_set: Tensor
    """bool [N, C]: the names of a set that holds the true one as often as was asked for; never empty."""
    in_distribution_score: Tensor
    """[N], what is compared with the model's `least`."""

    @property
    def rejected(self) -> Tensor:
        """bool [N]: it looks like none of the names."""
        return self.in_distribution_score < self.known.threshold

    def names(self, names: Sequence[str]) -> list[list[str]]:
        """The sets, best name first."""
        order = self.scores.probabilities.argsort(dim=-1, descending=True).tolist()
        return [
            [names[c] for c in best_first if in_set[c]]
            for best_first, in_set in zip(order, self.in_set.tolist(), strict=True)
        ]


def calibration_for(
    model: Model | None,
    names: Sequence[str],
    *,
    own_prompts: bool,
    alpha: float | None,
    templates: Sequence[str] | None,
    balance: float,
) -> Calibration | None:
    """The model's, if it holds for such a request: it was fitted with exactly the trained names as
    candidates, at the model's own α, sentences and balance. Otherwise None.

    Args:
        own_prompts: whether the request brings sentences for some name.
        alpha, templates: as they were asked for; None is the model's.
    """
    stored = (model.metrics or {}).get("calibration") if model is not None else None
    if model is None or stored is None:
        return None
    known = Calibration.from_dict(stored)
    asked, trained = {same_class(name) for name in names}, {same_class(name) for name in model.classes}
    plain = templates is None and balance == NEW_CLASS_BALANCE and not own_prompts
    at_its_own = math.isclose(model.alpha if alpha is None else alpha, known.alpha)
    return known if plain and at_its_own and asked == trained else None


def judge(
    known: Calibration,
    scores: Scores,
    features: Tensor,
    shots: tuple[Tensor, Tensor] | None,
    classes: Sequence[int],
    *,
    logit_scale: float,
    coverage: float,
) -> Judged:
    """Args:
    scores: of N images, with the trained names in any order.
    features: [N, D], what they were made of.
    shots: of the network that made them, features [S, D] and labels [S].
    classes: for each name its trained class.
    coverage: from 0 to 1, of the sets.
    """
    ranked = scores.similarities - scores.offsets
    probabilities = (logit_scale / known.temperature * ranked).softmax(dim=-1)
    in_set = probabilities >= known.conformal_threshold(coverage)
    in_set[torch.arange(len(in_set)), probabilities.argmax(dim=-1)] = True
    if shots is None or known.rejection_threshold is None:
        alike = ranked.amax(dim=-1)
    else:
        alike = in_distribution_score(features, ranked, *shots, classes)
    return Judged(known, replace(scores, probabilities=probabilities), in_set, alike)


class NotCalibrated(ClipCiteError):
    """`coverage` or `reject` was asked for where nothing is known."""

    code = "not_calibrated"
    status = 422

    def __init__(self) -> None:
        super().__init__(
            "coverage and reject need a model that was measured on 30 images or more (the `calibration` of "
            "its metrics), asked for exactly its trained names, without alpha, templates, prompts and "
            "new_class_balance."
        )
