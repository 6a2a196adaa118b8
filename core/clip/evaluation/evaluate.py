"""After the training: what it has brought, measured on images that were not trained on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.clip.config import AdaptConfig
from core.clip.data.images import Shot
from core.clip.data.splits import make_folds
from core.clip.errors import OutOfMemory, TrainingDiverged
from core.clip.evaluation.accuracy import brier_gain
from core.clip.evaluation.context import EvalContext
from core.clip.evaluation.cross_validation import cross_validate, cross_validation_cost
from core.clip.evaluation.forgetting import measure_forgetting
from core.clip.evaluation.label_issues import FOLDS, LabelIssue, cross_fitted, find_label_issues
from core.clip.evaluation.predictions import (
    CURVE,
    SIBLING_CURVE,
    Candidates,
    ClassScores,
    HeldOutPredictions,
    plain,
    predict,
)
from core.clip.evaluation.report import Report, build_report, job_metrics
from core.clip.evaluation.report_text import how_measured
from core.clip.inference.calibration import Calibration, fit_calibration, softmax
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.features import batches, build_zero_shot_classifier, image_features
from core.clip.models.imagenet_classes import DISTRACTOR_CLASSES, distractor_classes
from core.clip.prompts import same_class
from core.clip.training.microbatch import is_out_of_memory
from core.clip.training.progress import Part, Reporter, parts

OTHERS = 20
"""Names that are candidates beside the trained ones, where there are no new ones."""


def predict_test_images(
    subject: EvalContext,
    tests: Sequence[tuple[int, Shot]],
    alpha: float,
    reporter: Reporter,
    *,
    curve: Sequence[float],
) -> HeldOutPredictions:
    """Ask the published network. The candidates are its names and those of the tests, or others from
    ImageNet where the tests have none that is new and there is a curve to draw."""
    names = list(subject.trained.class_names)
    spelling = {same_class(name): name for name in names}
    truths = [spelling.setdefault(same_class(shot.class_name), shot.class_name) for _, shot in tests]
    names = list(dict.fromkeys([*names, *truths]))
    if curve and len(names) == len(subject.trained.class_names):
        names += distractor_classes(names, OTHERS)
    shots = subject.weights.shots
    assert shots is not None  # these weights were just made
    return predict(
        subject.backbone,
        subject.weights,
        subject.candidates(names),
        PrototypeClassifier(shots.features[0].float(), shots.labels),
        [shot.source for _, shot in tests],
        [names.index(name) for name in truths],
        [position for position, _ in tests],
        alpha=alpha,
        curve=curve,
        reporter=reporter,
        limits=subject.limits,
    )


SLACK = 1.3
"""How much longer the siblings may take than the training did before the deadline is in danger."""


@dataclass(frozen=True)
class Evaluation:
    metrics: Mapping[str, Any]
    """As in the HTTP contract."""
    report: Report | None
    held: HeldOutPredictions | None
    """What was answered, which all of it was made from; None where nothing was asked."""


def efforts(labels: Sequence[int], tests: int, config: AdaptConfig) -> list[float]:
    """What `evaluate` will do, one part after the other, in images that are looked at once: the training
    images, the siblings, what was kept, the tests."""
    if config.evaluate == "none":
        return [0.0, 0.0, 0.0, 2.0 * tests]
    siblings = 0.0 if tests else cross_validation_cost(labels, config)
    networks = len(CURVE if tests else SIBLING_CURVE)
    of_texts = networks * DISTRACTOR_CLASSES / 2  # a text takes about half as long as an image
    return [float(len(labels)), siblings, of_texts, float(networks * tests)]


def evaluate(
    subject: EvalContext,
    tests: Sequence[tuple[int, Shot]],
    source: str,
    reporter: Reporter,
    *,
    seconds_left: float | None = None,
) -> Evaluation:
    """Measure on `tests` where there are any; else on what siblings answer (`core.clip.data.splits`).

    Args:
        tests: (place in the upload, image), of trained classes or others.
        source: of the tests, `test` or `holdout`.
        seconds_left: the siblings are left out, with a warning, where they would take longer.

    Raises BadImage, Cancelled.
    """
    config, trained = subject.config, subject.trained
    looking, checking, keeping, asking = parts(reporter, efforts(trained.labels, len(tests), config))
    if config.evaluate == "none":
        held, gain = None, None
        if tests:
            reporter.stage("evaluating")
            held = predict_test_images(subject, tests, config.alpha, asking, curve=())
            gain = brier_gain(held, subject.backbone.logit_scale)
        metrics = job_metrics(held, gain, source=source, trained_images=len(trained.labels))
        return Evaluation(metrics, None, held)

    started = time.monotonic()
    candidates = subject.candidates([*trained.class_names, *distractor_classes(trained.class_names, OTHERS)])
    features = _stock_features(subject, looking)
    previews, stock = _previews(subject, candidates, features)
    siblings = None if tests else _siblings(subject, candidates, features, seconds_left, checking)
    reporter.stage("evaluating")
    kept = measure_forgetting(
        subject.backbone,
        subject.weights,
        trained.class_names,
        config.templates,
        keeping,
        CURVE if tests else SIBLING_CURVE,
    )
    label_issues = _label_issues(subject, previews, siblings)
    if tests:
        held = predict_test_images(subject, tests, config.alpha, asking, curve=CURVE)
    elif siblings is not None:
        held, source = (
            replace(siblings, positions=np.asarray(trained.positions)[siblings.positions]),
            "cross_validation",
        )
    else:
        held, source = _only_previews(subject, candidates, previews, stock), "preview"
    gain = brier_gain(held, subject.backbone.logit_scale)
    calibration = _calibration_of(held, subject.backbone.logit_scale, config.alpha)
    report = build_report(
        held,
        source=source,
        how=how_measured(source, len(held.truth), len(trained.labels)),
        trained_images=[trained.labels.count(k) for k in range(len(trained.class_names))],
        alpha=config.alpha,
        logit_scale=subject.backbone.logit_scale,
        calibration=calibration,
        brier_gain=gain,
        label_issues=label_issues,
        kept=kept,
        seconds={
            "training": round(trained.seconds, 1),
            "report": round(time.monotonic() - started, 1),
        },
    )
    metrics = {
        **job_metrics(held, gain, source=source, trained_images=len(trained.labels)),
        "calibration": None if calibration is None else calibration.to_dict(),
    }
    return Evaluation(metrics, report, held)


def _stock_features(subject: EvalContext, reporter: Reporter) -> Tensor:
    """[N, D], of the training images."""
    features: list[Tensor] = []
    for pixels in batches(subject.backbone, subject.trained.sources, subject.limits):
        features.append(image_features(subject.backbone.model, pixels).cpu())
        reporter.progressed(sum(map(len, features)) / len(subject.trained.sources))
    return torch.cat(features)


def _previews(
    subject: EvalContext, candidates: Candidates, features: Tensor
) -> tuple[ClassScores, ClassScores]:
    """What previews make of the training images that they were not given, and what stock does."""
    backbone, trained = subject.backbone, subject.trained
    head = build_zero_shot_classifier(backbone.model, backbone.tokenize, candidates.prompts).cpu()
    previews = cross_fitted(features, trained.labels, head, candidates, subject.config.seed)
    return previews, plain(features, head, candidates)


def _siblings(
    subject: EvalContext, candidates: Candidates, features: Tensor, seconds_left: float | None, reporter: Part
) -> HeldOutPredictions | None:
    """None where there are too few images or too little time, or where one of them fails."""
    trained = subject.trained
    folds = make_folds(trained.labels, subject.config.seed)
    if not folds:
        return None
    if seconds_left is not None and seconds_left < SLACK * trained.seconds:
        reporter.warn(
            "report_left_out",
            f"The training took {trained.seconds:.0f} s and would have to be done again without some of the "
            "images to be measured: too long for CLIPCITE_DEADLINE_SECONDS. Send test images, or use "
            "fewer epochs.",
        )
        return None
    reporter.stage("cross_validating")
    try:
        return cross_validate(
            subject.backbone,
            folds,
            trained.sources,
            trained.images,
            features,
            trained.labels,
            candidates,
            subject.config,
            alpha=subject.config.alpha,
            reporter=reporter,
            limits=subject.limits,
        )
    except (OutOfMemory, TrainingDiverged, RuntimeError, MemoryError) as error:
        if not isinstance(error, (OutOfMemory, TrainingDiverged)) and not is_out_of_memory(error):
            raise
        reporter.warn(
            "report_failed",
            "The model is trained, but not measured: the training without some of the images failed. "
            f"{error}",
        )
        return None


def _label_issues(
    subject: EvalContext, previews: ClassScores, siblings: HeldOutPredictions | None
) -> list[LabelIssue]:
    """The judges are the previews and, of the images that they were asked about, the siblings."""
    scale = subject.backbone.logit_scale
    judges = [softmax(scale * previews.alone)]
    if siblings is not None and siblings.adapted is not None:
        of_siblings = judges[0].copy()
        of_siblings[siblings.positions] = softmax(scale * siblings.adapted.alone)
        judges.append(of_siblings)
    labels, positions = (np.asarray(x) for x in (subject.trained.labels, subject.trained.positions))
    return find_label_issues(judges, labels, positions)


def _only_previews(
    subject: EvalContext, candidates: Candidates, previews: ClassScores, stock: ClassScores
) -> HeldOutPredictions:
    """Where no network like the published one can be asked."""
    none: NDArray[np.int64] = np.arange(0)
    positions, labels = (np.asarray(x) for x in (subject.trained.positions, subject.trained.labels))
    learned_from = round(len(labels) * (FOLDS - 1) / FOLDS)
    return HeldOutPredictions(candidates, positions, labels, stock, previews, None, {}, none, learned_from)


def _calibration_of(held: HeldOutPredictions, logit_scale: float, alpha: float) -> Calibration | None:
    if held.adapted is None:
        return None
    rows = np.flatnonzero(held.truth < held.candidates.trained)
    asked = held.adapted[rows]
    return fit_calibration(
        asked.alone, held.truth[rows], asked.in_distribution_score, logit_scale=logit_scale, alpha=alpha
    )
