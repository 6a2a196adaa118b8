"""Results from scores: prediction sets of a calibrated model, and the most likely classes."""

import math
from collections.abc import Iterator, Sequence

import torch

from clipcite.types.class_names import same_class
from clipcite.types.classify import NEW_CLASS_BALANCE, Prediction
from core.clip.inference.calibration import FittedCalibration
from core.clip.inference.classifier import Scores
from core.clip.inference.request_rule import SCORING_VERSION
from core.errors import ExpectedError
from core.store.db.tables import Model


def holds_for(
    calibration: FittedCalibration,
    trained: Sequence[str],
    names: Sequence[str],
    *,
    own_prompts: bool,
    templates: Sequence[str] | None,
    balance: float,
) -> bool:
    """Return whether the prediction sets of a calibration are valid for a request.

    They are valid for exactly the trained classes, with the model's own prompts and balance, and if the
    calibration was fitted with this version of the scores.

    Args:
        own_prompts: the request has prompts of its own.
        templates: prompt templates of the request. None: the model's.
    """
    same_names = {same_class(name) for name in names} == {same_class(name) for name in trained}
    plain = templates is None and balance == NEW_CLASS_BALANCE and not own_prompts
    same_scores = calibration.scoring_version == SCORING_VERSION
    return plain and same_scores and same_names


def stored_calibration(model: Model, alpha: float) -> FittedCalibration | None:
    """Return the calibration of the model if it was fitted at this α."""
    stored = (model.metrics or {}).get("calibration")
    calibration = FittedCalibration.from_dict(stored) if stored else None
    return calibration if calibration is not None and math.isclose(alpha, calibration.alpha) else None


def prediction_sets(
    calibration: FittedCalibration, scores: Scores, names: Sequence[str], coverage: float
) -> list[list[str]]:
    """Return the names in each image's prediction set, the most likely class first. A set is never empty.

    Args:
        scores: scores [N, C] of N images at the calibration's temperature, with the trained classes in any
            order.
        coverage: probability, from 0 to 1, that a prediction set contains the true class.
    """
    in_set = scores.probabilities >= calibration.conformal_threshold(coverage)
    in_set[torch.arange(len(in_set)), scores.scores.argmax(dim=-1)] = True
    order = scores.scores.argsort(dim=-1, descending=True).tolist()
    rows = zip(order, in_set.tolist(), strict=True)
    return [[names[c] for c in best_first if chosen[c]] for best_first, chosen in rows]


class NotCalibrated(ExpectedError):
    """A request for `coverage` without a valid calibration."""

    code = "not_calibrated"
    status = 422

    def __init__(self, model: object) -> None:
        metrics = model.metrics if isinstance(model, Model) else None
        if (metrics or {}).get("verdict") == "evaluating":
            super().__init__(
                "coverage needs the model's evaluation, which is still running. Send the request without "
                "coverage, or again when the job has succeeded."
            )
            return
        super().__init__(
            "coverage needs a calibrated model, which takes an evaluation on at least 30 images "
            "(see `calibration` in its metrics). Send exactly its trained classes, and omit alpha, "
            "templates, prompts and new_class_balance."
        )


def ranked(
    scores: Scores, names: Sequence[str], kinds: Sequence[str], top_k: int | None
) -> Iterator[list[Prediction]]:
    """Yield the K most likely classes of each image, best first."""
    count = len(names)
    # Sort by score, because small probabilities are all rounded to 0.
    top = scores.scores.topk(min(top_k or count, count), dim=-1).indices
    columns = (scores.probabilities.gather(1, top), top, scores.similarities.gather(1, top))
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield [
            Prediction(names[c], kinds[c], probability, similarity)
            for probability, c, similarity in zip(*row, strict=True)
        ]
