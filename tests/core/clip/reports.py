"""Predictions of imaginary models, and reports on them."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcite.types.report import Report, StoredReport
from core.clip.evaluation.accuracy import job_metrics
from core.clip.evaluation.predictions import ClassScores, HeldOutPredictions
from core.clip.evaluation.report import build_report
from core.clip.evaluation.report_text import report_sentences
from core.clip.evaluation.verdict import judge
from core.clip.prompts import Candidates

NAMES = ("fox", "badger", "hare", "oak", "elm")
K = 3


def class_scores(truth: NDArray[np.int64], right: float, seed: int) -> ClassScores:
    """Draw similarities that classify about this share of the images correctly."""
    generator = np.random.default_rng(seed)
    among = generator.normal(0, 0.01, (len(truth), len(NAMES)))
    told = generator.random(len(truth)) < right
    among[np.flatnonzero(told), truth[told]] += 0.2
    wrong = np.flatnonzero(~told)
    among[wrong, (truth[wrong] + 1) % K] += 0.1
    return ClassScores(among[:, :K], among, among[:, K:])


def held_out(stock: float = 0.5, adapted: float = 0.9, images: int = 60, new: int = 0) -> HeldOutPredictions:
    truth = np.array([i % K for i in range(images)] + [K + i % 2 for i in range(new)])
    return HeldOutPredictions(
        Candidates.of(NAMES, NAMES[:K], ["{}"]),
        np.arange(100, 100 + len(truth)),
        truth,
        class_scores(truth, stock, 1),
        class_scores(truth, adapted, 3),
    )


def predicted(truth: list[int], classes: list[int]) -> ClassScores:
    """Return scores whose best class is given, so close to the others that no Brier score is significant."""
    scores = np.zeros((len(truth), len(NAMES)))
    scores[np.arange(len(truth)), classes] = 0.01
    return ClassScores(scores[:, :K], scores, scores[:, K:])


def changed_by_hand(gained: int, lost: int, both: int, *, new: bool = False) -> HeldOutPredictions:
    """Return predictions on gained + lost + both images, of class 0, or of both kinds of class in turn."""
    n = gained + lost + both
    truth = [(0, 3)[i % 2] if new else 0 for i in range(n)]
    wrong = [(1, 4)[i % 2] if new else 1 for i in range(n)]
    stock = predicted(truth, wrong[:gained] + truth[gained:])
    adapted = predicted(truth, truth[:gained] + wrong[gained : gained + lost] + truth[gained + lost :])
    return replace(
        held_out(images=n),
        truth=np.array(truth),
        stock=stock,
        adapted=adapted,
    )


def more_certain() -> HeldOutPredictions:
    """Return predictions for 36 images: two become correct, and most get nearer to the truth."""
    held = held_out(stock=0.6, adapted=0.6, images=36)
    scores, truth = held.stock.all_classes.copy(), held.truth
    wrong = np.flatnonzero(held.stock.trained_only.argmax(axis=1) != truth)
    scores[np.arange(36), truth] += 0.05
    scores[wrong[:2], truth[wrong[:2]]] += 0.3
    return replace(held, adapted=ClassScores(scores[:, :K], scores, scores[:, K:]))


def report(held: HeldOutPredictions, **given: object) -> Report:
    stored = stored_report(held, **given)
    measured = stored.measured_on
    metrics = job_metrics(
        held, stored.verdict, source=measured.source, trained_images=measured.trained_images
    )
    made = read(stored)
    made.sentences = report_sentences(stored, metrics)
    return made


def read(stored: StoredReport | None) -> Report:
    """Return a report as the service's answer shows it."""
    assert stored is not None
    return Report(job_id="job_1", model_id="mdl_1", **stored.model_dump(mode="json"))


def report_fields(held: HeldOutPredictions, **given: object) -> dict[str, Any]:
    return stored_report(held, **given).model_dump(mode="json")


def stored_report(held: HeldOutPredictions, **given: object) -> StoredReport:
    fields = {
        "source": "cross_validation",
        "how": "So it was.",
        "trained_images": [20, 20, 20],
        "alpha": 0.5,
        "logit_scale": 40.0,
        "calibration": None,
        "judgement": judge(held, 40.0),
        "label_issues": [],
        "label_accuracy": 0.9,
        "limits": None,
        **given,
    }
    return build_report(held, **fields)  # type: ignore[arg-type]
