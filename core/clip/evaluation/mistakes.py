"""Wrong predictions, and predictions that training changed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipcite.types.report import ChangedImage, ImageReport
from core.clip.data.splits import in_turns
from core.clip.evaluation.predictions import HeldOutPredictions
from core.clip.inference.calibration import softmax

MAX_SHOWN = 24
"""Maximum number of mistakes, and of label issues, in a report."""


def find_mistakes(
    scores: NDArray[np.float64],
    truth: NDArray[np.int64],
    positions: NDArray[np.int64],
    names: Sequence[str],
    scale: float,
) -> list[ImageReport]:
    """Return the most confident wrong predictions.

    Args:
        scale: logit scale divided by the temperature.
    """
    probabilities = softmax(scale * scores)
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:MAX_SHOWN]
    return [
        ImageReport(
            position=int(positions[i]),
            class_name=names[truth[i]],
            predicted=names[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
        )
        for i in worst
    ]


def find_changes(
    held_out: HeldOutPredictions, which: str, logit_scale: float, temperature: float
) -> tuple[list[ChangedImage], list[ChangedImage]]:
    """Return the images that only the adapted model gets right, and those that only the stock model does.

    Args:
        which: candidates: `trained_only` or `all_classes`.
        temperature: temperature of the model, which applies to every request.
    """
    truth, names = held_out.truth, held_out.candidates.names
    scores: NDArray[np.float64] = getattr(held_out.adapted, which)
    before = getattr(held_out.stock, which).argmax(axis=1)
    after = scores.argmax(axis=1)
    probability = softmax(logit_scale / temperature * scores)[np.arange(len(truth)), after]

    def changes(rows: NDArray[np.int64]) -> list[ChangedImage]:
        by_confidence = rows[np.argsort(-probability[rows], kind="stable")]
        return [
            ChangedImage(
                position=int(held_out.positions[i]),
                class_name=names[truth[i]],
                predicted=names[after[i]],
                probability=float(probability[i]),
                before=names[before[i]],
            )
            for i in by_confidence[in_turns(truth[by_confidence].tolist())]
        ]

    right_before, right_after = before == truth, after == truth
    return changes(np.flatnonzero(~right_before & right_after)), changes(
        np.flatnonzero(right_before & ~right_after)
    )
