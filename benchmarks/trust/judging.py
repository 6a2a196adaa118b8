"""Comparison of a report with the large test set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.asking import IN_DISTRIBUTION
from benchmarks.trust.runs import Record
from core.clip.inference.calibration import (
    Calibration,
    calibration_error,
    reliability,
    softmax,
)

COVERAGE = 0.9


def judged(record: Record) -> dict[str, Any]:
    """Return the figures of a run that the tables show."""
    reported = record.plain
    if reported["kind"] != "real":
        return reported
    truth = record.arrays["truth"]
    listed = truth < record.arrays["alone"].shape[1]
    correct = {
        name.removeprefix("named_"): named[listed, 0] == truth[listed]  # among the trained classes
        for name, named in record.arrays.items()
        if name.startswith("named_")
    }
    alone = {key: float(hits.mean()) for key, hits in correct.items()}
    judgement = {
        **reported,
        "true": alone[str(reported["alpha"])],
        "true_gain": alone[str(reported["alpha"])] - alone["0.0"],
        "true_preview": alone["preview"],
    }
    if reported["calibration"] is not None:
        judgement["confident"] = _confident(record, Calibration.from_dict(reported["calibration"]), listed)
    return judgement


def _confident(record: Record, fitted: Calibration, listed: NDArray[np.bool_]) -> dict[str, float]:
    scale, arrays = record.plain["logit_scale"], record.arrays
    alone, truth = arrays["alone"].astype(np.float64), arrays["truth"][listed]
    before = softmax(scale * alone[listed])
    after = softmax(scale * alone[listed] / fitted.temperature)
    sets = after >= fitted.conformal_threshold(COVERAGE)
    sets[np.arange(len(sets)), after.argmax(axis=1)] = True
    kept = arrays[IN_DISTRIBUTION] >= fitted.threshold
    return {
        "temperature": fitted.temperature,
        "error_before": calibration_error(reliability(before, truth)),
        "error_after": calibration_error(reliability(after, truth)),
        "covered": float(sets[np.arange(len(truth)), truth].mean()),
        "set_size": float(sets.sum(axis=1).mean()),
        "classes": float(alone.shape[1]),
        "kept": float(kept[listed].mean()),
        "let_through": float(kept[~listed].mean()),
        "new_kept": float((arrays["new_cosine"][~listed] >= fitted.least_similarity).mean()),
    }
