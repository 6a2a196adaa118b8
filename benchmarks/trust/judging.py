"""Comparison of a report with the large test set."""

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.asking import AMONG
from benchmarks.trust.runs import Record
from core.clip.inference.calibration import (
    FittedCalibration,
    Floats,
    calibration_error,
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
    }
    if reported["calibration"] is not None:
        judgement["confident"] = _confident(record, _calibration(reported["calibration"]), listed)
    return judgement


def _calibration(stored: dict[str, Any]) -> FittedCalibration:
    """Return a calibration. Older records have fields that are gone."""
    names = {field.name for field in fields(FittedCalibration)}
    return FittedCalibration.from_dict({name: value for name, value in stored.items() if name in names})


def _confident(record: Record, fitted: FittedCalibration, listed: NDArray[np.bool_]) -> dict[str, float]:
    scale, arrays = record.plain["logit_scale"], record.arrays
    alone, truth = arrays["alone"].astype(np.float64), arrays["truth"]
    among = arrays[f"{AMONG}{record.plain['alpha']}"].astype(np.float64)

    def error(scores: Floats, labels: NDArray[np.int64], temperature: float) -> float:
        return calibration_error(softmax(scale * scores / temperature), labels)

    chances = softmax(scale * alone[listed] / fitted.temperature)
    sets = chances >= fitted.conformal_threshold(COVERAGE)
    sets[np.arange(len(sets)), chances.argmax(axis=1)] = True
    return {
        "temperature": fitted.temperature,
        "error_before": error(alone[listed], truth[listed], 1),
        "error_after": error(alone[listed], truth[listed], fitted.temperature),
        "mixed_before": error(among, truth, 1),
        "mixed_after": error(among, truth, fitted.temperature),
        "covered": float(sets[np.arange(len(sets)), truth[listed]].mean()),
        "set_size": float(sets.sum(axis=1).mean()),
        "classes": float(alone.shape[1]),
    }
