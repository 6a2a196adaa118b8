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
from core.clip.evaluation.label_issues import FOLDS, LabelIssue, cross_fit_scores, find_label_issues
from core.clip.evaluation.predictions import (
    CROSS_VALIDATION_CURVE,
    CURVE,
    Candidates,
    ClassScores,
    HeldOutPredictions,
    cosine_scores,
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
from core.clip.training.progress import Reporter, ReporterSlice, split_progress

OTHERS = 20
"""Names that are candidates beside the trained ones, where there are no new ones."""


def predict_test_images(
    context: EvalContext,
    tests: Sequence[tuple[int, Shot]],
    alpha: float,
    reporter: Reporter,
    *,
    curve: Sequence[float],
) -> HeldOutPredictions:
    """Ask the published network. The candidates are its names and those of the tests, or others from
    ImageNet where the tests have none that is new and there is a curve to draw."""
    names = list(context.trained.class_names)
    spelling = {same_class(name): name for name in names}
    truths = [spelling.setdefault(same_class(shot.class_name), shot.class_name) for _, shot in tests]
    names = list(dict.fromkeys([*names, *truths]))
    if curve and len(names) == len(context.trained.class_names):
        names += distractor_classes(names, OTHERS)
    shots = context.weights.shots
    assert shots is not None  # these weights were just made
    return predict(
        context.backbone,
        context.weights,
        context.candidates(names),
        PrototypeClassifier(shots.features[0].float(), shots.labels),
        [shot.source for _, shot in tests],
        [names.index(name) for name in truths],
        [position for position, _ in tests],
        alpha=alpha,
        curve=curve,
        reporter=reporter,
        limits=context.limits,
    )


SLACK = 1.3
"""How much longer the siblings may take than the training did before the deadline is in danger."""


@dataclass(frozen=True)
class Evaluation:
    metrics: Mapping[str, Any]
    """As in the HTTP contract."""
    report: Report | None
    held_out: HeldOutPredictions | None
    """What was answered, which all of it was made from; None where nothing was asked."""


def stage_costs(labels: Sequence[int], tests: int, config: AdaptConfig) -> list[float]:
    """What `evaluate` will do, one part after the other, in images that are looked at once: the training
    images, the siblings, what was kept, the tests."""
    if config.evaluate == "none":
        return [0.0, 0.0, 0.0, 2.0 * tests]
    siblings = 0.0 if tests else cross_validation_cost(labels, config)
    networks = len(CURVE if tests else CROSS_VALIDATION_CURVE)
    of_texts = networks * DISTRACTOR_CLASSES / 2  # a text takes about half as long as an image
    return [float(len(labels)), siblings, of_texts, float(networks * tests)]


def evaluate(
    context: EvalContext,
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
    config, trained = context.config, context.trained
    looking, checking, keeping, asking = split_progress(
        reporter, stage_costs(trained.labels, len(tests), config)
    )
    if config.evaluate == "none":
        held_out, gain = None, None
        if tests:
            reporter.stage("evaluating")
            held_out = predict_test_images(context, tests, config.alpha, asking, curve=())
            gain = brier_gain(held_out, context.backbone.logit_scale)
        metrics = job_metrics(held_out, gain, source=source, trained_images=len(trained.labels))
        return Evaluation(metrics, None, held_out)

    started = time.monotonic()
    candidates = context.candidates([*trained.class_names, *distractor_classes(trained.class_names, OTHERS)])
    features = _stock_features(context, looking)
    previews, stock = _previews(context, candidates, features)
    siblings = None if tests else _siblings(context, candidates, features, seconds_left, checking)
    reporter.stage("evaluating")
    kept = measure_forgetting(
        context.backbone,
        context.weights,
        trained.class_names,
        config.templates,
        keeping,
        CURVE if tests else CROSS_VALIDATION_CURVE,
    )
    label_issues = _label_issues(context, previews, siblings)
    if tests:
        held_out = predict_test_images(context, tests, config.alpha, asking, curve=CURVE)
    elif siblings is not None:
        held_out, source = (
            replace(siblings, positions=np.asarray(trained.positions)[siblings.positions]),
            "cross_validation",
        )
    else:
        held_out, source = _only_previews(context, candidates, previews, stock), "preview"
    gain = brier_gain(held_out, context.backbone.logit_scale)
    calibration = _calibration_of(held_out, context.backbone.logit_scale, config.alpha)
    report = build_report(
        held_out,
        source=source,
        how=how_measured(source, len(held_out.truth), len(trained.labels)),
        trained_images=[trained.labels.count(k) for k in range(len(trained.class_names))],
        alpha=config.alpha,
        logit_scale=context.backbone.logit_scale,
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
        **job_metrics(held_out, gain, source=source, trained_images=len(trained.labels)),
        "calibration": None if calibration is None else calibration.to_dict(),
    }
    return Evaluation(metrics, report, held_out)


def _stock_features(context: EvalContext, reporter: Reporter) -> Tensor:
    """[N, D], of the training images."""
    features: list[Tensor] = []
    for pixels in batches(context.backbone, context.trained.sources, context.limits):
        features.append(image_features(context.backbone.model, pixels).cpu())
        reporter.progressed(sum(map(len, features)) / len(context.trained.sources))
    return torch.cat(features)


def _previews(
    context: EvalContext, candidates: Candidates, features: Tensor
) -> tuple[ClassScores, ClassScores]:
    """What previews make of the training images that they were not given, and what stock does."""
    backbone, trained = context.backbone, context.trained
    classifier_weights = build_zero_shot_classifier(
        backbone.model, backbone.tokenize, candidates.prompts
    ).cpu()
    previews = cross_fit_scores(features, trained.labels, classifier_weights, candidates, context.config.seed)
    return previews, cosine_scores(features, classifier_weights, candidates)


def _siblings(
    context: EvalContext,
    candidates: Candidates,
    features: Tensor,
    seconds_left: float | None,
    reporter: ReporterSlice,
) -> HeldOutPredictions | None:
    """None where there are too few images or too little time, or where one of them fails."""
    trained = context.trained
    folds = make_folds(trained.labels, context.config.seed)
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
            context.backbone,
            folds,
            trained.sources,
            trained.images,
            features,
            trained.labels,
            candidates,
            context.config,
            alpha=context.config.alpha,
            reporter=reporter,
            limits=context.limits,
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
    context: EvalContext, previews: ClassScores, siblings: HeldOutPredictions | None
) -> list[LabelIssue]:
    """The judges are the previews and, of the images that they were asked about, the siblings."""
    scale = context.backbone.logit_scale
    judges = [softmax(scale * previews.trained_only)]
    if siblings is not None and siblings.adapted is not None:
        of_siblings = judges[0].copy()
        of_siblings[siblings.positions] = softmax(scale * siblings.adapted.trained_only)
        judges.append(of_siblings)
    labels, positions = (np.asarray(x) for x in (context.trained.labels, context.trained.positions))
    return find_label_issues(judges, labels, positions)


def _only_previews(
    context: EvalContext, candidates: Candidates, previews: ClassScores, stock: ClassScores
) -> HeldOutPredictions:
    """Where no network like the published one can be asked."""
    none: NDArray[np.int64] = np.arange(0)
    positions, labels = (np.asarray(x) for x in (context.trained.positions, context.trained.labels))
    images_per_fold_model = round(len(labels) * (FOLDS - 1) / FOLDS)
    return HeldOutPredictions(
        candidates, positions, labels, stock, previews, None, {}, none, images_per_fold_model
    )


def _calibration_of(held_out: HeldOutPredictions, logit_scale: float, alpha: float) -> Calibration | None:
    if held_out.adapted is None:
        return None
    rows = np.flatnonzero(held_out.truth < held_out.candidates.trained)
    asked = held_out.adapted[rows]
    return fit_calibration(
        asked.trained_only,
        held_out.truth[rows],
        asked.in_distribution_score,
        logit_scale=logit_scale,
        alpha=alpha,
    )
