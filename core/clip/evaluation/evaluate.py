"""Evaluation after training: choice of held-out images, predictions, calibration, metrics and report."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from core.clip.data.images import Shot
from core.clip.data.splits import make_folds
from core.clip.errors import OutOfMemory, TrainingDiverged
from core.clip.evaluation.accuracy import job_metrics
from core.clip.evaluation.context import EvalContext
from core.clip.evaluation.cross_validation import cross_validate
from core.clip.evaluation.label_issues import FOLDS, agreed_label_issues, cross_fit_scores
from core.clip.evaluation.predictions import (
    Candidates,
    ClassScores,
    HeldOutPredictions,
    cosine_scores,
    predict,
)
from core.clip.evaluation.report import build_report
from core.clip.evaluation.report_text import how_measured
from core.clip.evaluation.verdict import judge
from core.clip.inference.calibration import Calibration, fit_calibration
from core.clip.inference.prototypes import PrototypeClassifier
from core.clip.models.device import is_out_of_memory
from core.clip.models.features import build_zero_shot_classifier
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.prompts import same_class
from core.clip.training.progress import Reporter

OTHERS = 20
"""Distractor classes added to the candidates if the test images have no new classes."""


def predict_test_images(
    context: EvalContext,
    tests: Sequence[tuple[int, Shot]],
    reporter: Reporter,
) -> HeldOutPredictions:
    """Predict the test images with the adapted model.

    The candidates are the trained classes and the classes of the tests. If the tests have no new class,
    distractor classes are added.
    """
    names = list(context.trained.class_names)
    spelling = {same_class(name): name for name in names}
    truths = [spelling.setdefault(same_class(shot.class_name), shot.class_name) for _, shot in tests]
    names = list(dict.fromkeys([*names, *truths]))
    if len(names) == len(context.trained.class_names):
        names += distractor_classes(names, OTHERS)
    shots = context.weights.shots
    assert shots is not None  # newly trained weights have a support set
    return predict(
        context.backbone,
        context.weights,
        context.candidates(names),
        PrototypeClassifier(shots.features[0].float(), shots.labels),
        [shot.source for _, shot in tests],
        [names.index(name) for name in truths],
        [position for position, _ in tests],
        alpha=context.config.alpha,
        reporter=reporter,
        limits=context.limits,
    )


SLACK = 1.3
"""Cross-validation is skipped if less than this multiple of the training time is left."""


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation."""

    metrics: Mapping[str, Any]
    """Field `metrics` of jobs and models in the HTTP API."""
    report: dict[str, Any] | None
    """The report, ready for JSON; None with `config.evaluate` "none"."""
    held_out: HeldOutPredictions | None
    """The predictions behind metrics and report; None if no image was held out."""


def evaluate(
    context: EvalContext,
    tests: Sequence[tuple[int, Shot]],
    source: str,
    reporter: Reporter,
    *,
    seconds_left: float | None = None,
) -> Evaluation:
    """Evaluate on `tests` if there are any, else by cross-validation (`core.clip.data.splits`).

    With `config.evaluate` "none" nothing is evaluated.

    Args:
        tests: (position in the upload, image), of trained or new classes.
        source: source of the tests, `test` or `holdout`.
        seconds_left: time limit. Cross-validation that would exceed it is skipped with a warning.

    Raises:
        BadImage: an image can't be read.
        Cancelled: the reporter requested a stop.
    """
    config, trained = context.config, context.trained
    if config.evaluate == "none":
        return Evaluation(job_metrics(None, source="none", trained_images=len(trained.labels)), None, None)
    reporter.stage("evaluating")
    started = time.monotonic()
    candidates = context.candidates([*trained.class_names, *distractor_classes(trained.class_names, OTHERS)])
    features = trained.stock_features
    text_features = build_zero_shot_classifier(
        context.backbone.model, context.backbone.tokenize, candidates.prompts
    ).cpu()
    repeats = cross_fit_scores(
        features, trained.labels, text_features, candidates, config.seed, trained.originals
    )
    previews = ClassScores.mean(repeats)
    cross_validated = (
        None if tests else _cross_validate(context, candidates, features, seconds_left, reporter)
    )
    label_issues = agreed_label_issues(context, repeats, cross_validated)
    if tests:
        held_out = predict_test_images(context, tests, reporter)
    elif cross_validated is not None:
        held_out, source = (
            replace(cross_validated, positions=np.asarray(trained.positions)[cross_validated.positions]),
            "cross_validation",
        )
    else:
        stock = cosine_scores(features, text_features, candidates)
        held_out, source = _only_previews(context, candidates, previews, stock), "preview"
    judgement = judge(held_out, context.backbone.logit_scale)
    calibration = _calibration_of(held_out, context.backbone.logit_scale, config.alpha)
    report = build_report(
        held_out,
        source=source,
        how=how_measured(source, len(held_out.truth), len(trained.labels), held_out.fold_models),
        trained_images=[trained.labels.count(k) for k in range(len(trained.class_names))],
        alpha=config.alpha,
        logit_scale=context.backbone.logit_scale,
        calibration=calibration,
        judgement=judgement,
        label_issues=label_issues,
        seconds={
            "training": round(trained.seconds, 1),
            "report": round(time.monotonic() - started, 1),
        },
    )
    metrics = {
        **job_metrics(held_out, judgement.verdict, source=source, trained_images=len(trained.labels)),
        "calibration": None if calibration is None else calibration.to_dict(),
    }
    return Evaluation(metrics, report, held_out)


def _cross_validate(
    context: EvalContext,
    candidates: Candidates,
    features: Tensor,
    seconds_left: float | None,
    reporter: Reporter,
) -> HeldOutPredictions | None:
    """Cross-validate; return None if images or time are too few, or if a fold model fails."""
    trained = context.trained
    folds = make_folds(trained.labels, context.config.seed, trained.originals)
    if not folds:
        return None
    if seconds_left is not None and seconds_left < SLACK * trained.seconds:
        reporter.warn(
            "report_left_out",
            f"No report: cross-validation would take about as long as the training "
            f"({trained.seconds:.0f} s) and exceed CLIPCITE_DEADLINE_SECONDS. Send test images, or use "
            "fewer epochs.",
        )
        return None
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
            originals=trained.originals,
        )
    except (OutOfMemory, TrainingDiverged, RuntimeError, MemoryError) as error:
        if not isinstance(error, (OutOfMemory, TrainingDiverged)) and not is_out_of_memory(error):
            raise
        reporter.warn(
            "report_failed",
            f"The model is trained but not evaluated, because cross-validation failed. {error}",
        )
        return None


def _only_previews(
    context: EvalContext, candidates: Candidates, previews: ClassScores, stock: ClassScores
) -> HeldOutPredictions:
    """Return the predictions of stock model and previews alone, without fold models."""
    trained = context.trained
    rows = np.arange(len(trained.labels))
    if trained.originals is not None:
        rows = rows[rows == trained.originals]
    positions, labels = (np.asarray(x)[rows] for x in (trained.positions, trained.labels))
    images_per_fold_model = round(len(rows) * (FOLDS - 1) / FOLDS)
    return HeldOutPredictions(
        candidates, positions, labels, stock[rows], previews[rows], None, {}, images_per_fold_model
    )


def _calibration_of(held_out: HeldOutPredictions, logit_scale: float, alpha: float) -> Calibration | None:
    if held_out.adapted is None:
        return None
    rows = np.flatnonzero(held_out.truth < held_out.candidates.trained)
    scores = held_out.adapted[rows]
    return fit_calibration(
        scores.trained_only,
        held_out.truth[rows],
        scores.in_distribution_score,
        logit_scale=logit_scale,
        alpha=alpha,
        fold_models=held_out.fold_models > 0,
    )
