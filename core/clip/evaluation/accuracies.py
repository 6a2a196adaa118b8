"""Accuracies of stock model, preview and adapted model on the same images, and the metrics of a job."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.clip.evaluation.intervals import Interval, accuracy_interval, difference_interval
from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions


@dataclass(frozen=True)
class Accuracies:
    """Accuracies on the same images with the same candidates."""

    images: int
    candidates: int
    """Number of candidate classes."""
    stock: Interval
    preview: Interval
    adapted: Interval | None
    """None if only the instant preview was evaluated."""
    preview_against_stock: Interval
    adapted_against_stock: Interval | None
    adapted_against_preview: Interval | None


def candidates_of(held_out: HeldOutPredictions) -> str:
    """Return the candidates of the verdict: trained classes, or all classes if an image has a new one."""
    return "all_classes" if (held_out.truth >= held_out.candidates.trained).any() else "trained_only"


def overall(held_out: HeldOutPredictions) -> Accuracies:
    """Return the accuracies on all images, with the candidates of the verdict."""
    return accuracies(held_out, np.arange(len(held_out.truth)), candidates_of(held_out))


def is_correct(scores: ClassScores, truth: NDArray[np.int64], which: str, trained: int) -> NDArray[np.bool_]:
    """Return [N], True where the most likely candidate is the true class.

    Args:
        which: candidates: `trained_only`, `all_classes` or `new`.
        trained: number of trained classes.
    """
    if which == "new":
        result: NDArray[np.bool_] = scores.new_only.argmax(axis=1) + trained == truth
    else:
        result = getattr(scores, which).argmax(axis=1) == truth
    return result


def accuracies(held_out: HeldOutPredictions, rows: NDArray[np.int64], which: str) -> Accuracies:
    """Return the accuracies on some images.

    Args:
        rows: their rows in the predictions.
        which: candidates, as for `is_correct`.
    """
    k, truth = held_out.candidates.trained, held_out.truth[rows]
    stock, preview = (is_correct(a[rows], truth, which, k) for a in (held_out.stock, held_out.preview))
    names = {
        "trained_only": k,
        "all_classes": len(held_out.candidates.names),
        "new": len(held_out.candidates.names) - k,
    }[which]
    adapted = None if held_out.adapted is None else is_correct(held_out.adapted[rows], truth, which, k)
    interval = partial(accuracy_interval, images_per_fold_model=held_out.images_per_fold_model)
    return Accuracies(
        images=len(rows),
        candidates=names,
        stock=accuracy_interval(stock),
        preview=interval(preview),
        adapted=None if adapted is None else interval(adapted),
        preview_against_stock=difference_interval(preview, stock),
        adapted_against_stock=None if adapted is None else difference_interval(adapted, stock),
        adapted_against_preview=None if adapted is None else difference_interval(adapted, preview),
    )


def job_metrics(
    held_out: HeldOutPredictions | None,
    verdict: str = "not_evaluated",
    *,
    source: str,
    trained_images: int,
) -> dict[str, Any]:
    """Return the `metrics` of a job and its model: accuracies of both models, and the verdict.

    The candidates are the trained classes and the classes of the images.

    Args:
        held_out: None, or without predictions of an adapted model, if the model was not evaluated.
        verdict: as in `core.clip.evaluation.verdict.Judgement`; `evaluating` before the evaluation.
    """
    if held_out is None or held_out.adapted is None:
        return {
            "measured_on": {"source": "none", "images": 0, "trained_images": trained_images},
            "trained_classes": None,
            "new_classes": None,
            "all_classes": None,
            "verdict": verdict,
        }
    trained = np.flatnonzero(held_out.truth < held_out.candidates.trained)
    new = np.flatnonzero(held_out.truth >= held_out.candidates.trained)
    everything = overall(held_out)

    def shown(accuracies: Accuracies) -> dict[str, Any] | None:
        if accuracies.adapted is None or accuracies.adapted_against_stock is None:
            return None
        return {
            "stock": accuracies.stock.value,
            "adapted": accuracies.adapted.value,
            "difference": vars(accuracies.adapted_against_stock),
        }

    def measured(rows: NDArray[np.int64], which: str) -> dict[str, Any] | None:
        return shown(accuracies(held_out, rows, which)) if len(rows) else None

    return {
        "measured_on": {"source": source, "images": len(held_out.truth), "trained_images": trained_images},
        "trained_classes": measured(trained, "trained_only"),
        "new_classes": measured(new, "new"),
        "all_classes": {
            "trained": measured(trained, "all_classes" if len(new) else "trained_only"),
            "new": measured(new, "all_classes"),
            "all": shown(everything),
        },
        "verdict": verdict,
    }
