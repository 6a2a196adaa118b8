"""What a report said beside what is so."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.trust.rejection import let_through, rejections
from benchmarks.trust.runs import Record
from core.clip.answers import Answers, Candidates, balanced, plain, previewed
from core.clip.balance import KeptShots
from core.clip.confidence import KEPT, Confidence, calibration_error, reliability, softmax
from core.clip.preview import Preview

COVERAGE = 0.9


def judged(record: Record) -> dict[str, Any]:
    """All that the tables show of a run."""
    said = record.plain
    if said["kind"] != "real":
        return said
    arrays = record.arrays
    k = int(arrays["shot_labels"].max()) + 1
    listed = np.flatnonzero(arrays["truth"] < k)
    truth = arrays["truth"]
    answered = {alpha: _answers(record, alpha, k) for alpha in _alphas(record)}
    right = {alpha: _right(answers.alone[listed], truth[listed]) for alpha, answers in answered.items()}
    mixed = {alpha: _right(answers.among, truth) for alpha, answers in answered.items()}
    served = answered[said["alpha"]]
    judgement = {
        **said,
        "true": right[said["alpha"]],
        "true_gain": right[said["alpha"]] - right[0.0],
        "true_preview": _right(_preview(record, k).alone[listed], truth[listed]),
        "mixed": {str(alpha): value for alpha, value in mixed.items()},
        "alone": {str(alpha): value for alpha, value in right.items()},
        "rejection": _rejection(record, k),
    }
    if said["confidence"] is not None:
        judgement["confident"] = _confident(record, Confidence.of(said["confidence"]), served, k)
    return judgement


def _alphas(record: Record) -> list[float]:
    return [float(name.removeprefix("head_")) for name in record.arrays if name.startswith("head_")]


def _candidates(record: Record, k: int) -> Candidates:
    """The names of the data set; their texts are features already."""
    names = tuple(map(str, range(int(record.arrays["truth"].max()) + 1)))
    return Candidates(names, k, tuple(() for _ in names))


def _answers(record: Record, alpha: float, k: int) -> Answers:
    candidates = _candidates(record, k)
    pictures, head = (torch.from_numpy(record.arrays[f"{of}_{alpha}"]) for of in ("pictures", "head"))
    head = head[: len(candidates.names)]
    if alpha == 0:
        return plain(pictures, head, candidates)
    return balanced(pictures, head, _shots(record), alpha, candidates)


def _shots(record: Record) -> KeptShots:
    return KeptShots(*(torch.from_numpy(record.arrays[name]) for name in ("shots", "shot_labels")))


def _preview(record: Record, k: int) -> Answers:
    candidates, shots = _candidates(record, k), _shots(record)
    pictures, head = (torch.from_numpy(record.arrays[f"{of}_0.0"]) for of in ("pictures", "head"))
    return previewed(
        Preview(shots.features[0], shots.labels), pictures, head[: len(candidates.names)], candidates
    )


def _rejection(record: Record, k: int) -> dict[str, float]:
    """By rule, what is let through where 95 % of the listed pictures are kept."""
    arrays, alpha = record.arrays, record.plain["alpha"]
    names = int(arrays["truth"].max()) + 1
    head = arrays[f"head_{alpha}"].astype(np.float64)
    scores = rejections(
        arrays[f"pictures_{alpha}"].astype(np.float64),
        head[:k],
        head[names:],
        _shots(record).at(alpha).double().numpy(),
        arrays["shot_labels"],
        record.plain["logit_scale"],
    )
    listed, unlisted = (np.flatnonzero(which) for which in (arrays["truth"] < k, arrays["truth"] >= k))
    return {rule: let_through(score, listed, unlisted, KEPT) for rule, score in scores.items()}


def _confident(record: Record, fitted: Confidence, served: Answers, k: int) -> dict[str, float]:
    scale = record.plain["logit_scale"]
    listed, unlisted = (
        np.flatnonzero(which) for which in (record.arrays["truth"] < k, record.arrays["truth"] >= k)
    )
    truth = record.arrays["truth"][listed]
    before = softmax(scale * served.alone[listed])
    after = softmax(scale * served.alone[listed] / fitted.temperature)
    sets = after >= fitted.least_probability(COVERAGE)
    sets[np.arange(len(sets)), after.argmax(axis=1)] = True
    best = served.alone.max(axis=1)
    return {
        "temperature": fitted.temperature,
        "error_before": calibration_error(reliability(before, truth)),
        "error_after": calibration_error(reliability(after, truth)),
        "covered": float(sets[np.arange(len(truth)), truth].mean()),
        "set_size": float(sets.sum(axis=1).mean()),
        "classes": float(k),
        "kept": float((best[listed] >= fitted.least_similarity).mean()),
        "let_through": float((best[unlisted] >= fitted.least_similarity).mean()),
    }


def _right(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    return float((scores.argmax(axis=1) == truth).mean())
