"""Evaluation after training: choice of held-out images, predictions, calibration, metrics and report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from clipcite.types.class_names import same_class
from clipcite.types.images import Image
from clipcite.types.report import Metrics, StoredReport
from core.clip.data.splits import make_folds
from core.clip.errors import OutOfMemory, TrainingDiverged
from core.clip.evaluation.accuracy import job_metrics
from core.clip.evaluation.context import EvalContext, TrainingSet
from core.clip.evaluation.cross_validation import cross_validate
from core.clip.evaluation.label_issues import agreed_label_issues
from core.clip.evaluation.predictions import HeldOutPredictions, predict, rejection_limits
from core.clip.evaluation.report import build_report
from core.clip.evaluation.report_text import MAX_NAMES, how_measured
from core.clip.evaluation.verdict import judge
from core.clip.inference.calibration import FittedCalibration, fit_calibration
from core.clip.inference.request_rule import MIN_IMAGES, adapted_rule
from core.clip.models.device import is_out_of_memory
from core.clip.models.features import build_zero_shot_classifier
from core.clip.models.imagenet_classes import distractor_classes
from core.clip.prompts import Candidates
from core.clip.training.progress import Reporter
from core.clip.weights.files import Weights

OTHERS = 20
"""Distractor classes added to the candidates if the test images have no new classes."""


def predict_test_images(
    context: EvalContext,
    weights: Weights,
    tests: Sequence[tuple[int, Image]],
    reporter: Reporter,
    network: nn.Module | None = None,
) -> HeldOutPredictions:
    """Predict the test images with the adapted model.

    The candidates are the trained classes and the classes of the test images. If these have no new class,
    distractor classes are added.
    """
    names = list(context.trained.class_names)
    spelling = {same_class(name): name for name in names}
    truths = [spelling.setdefault(same_class(image.class_name), image.class_name) for _, image in tests]
    names = list(dict.fromkeys([*names, *truths]))
    if len(names) == len(context.trained.class_names):
        names += distractor_classes(names, OTHERS)
    return predict(
        context,
        weights,
        context.candidates(names),
        [image for _, image in tests],
        [names.index(name) for name in truths],
        [position for position, _ in tests],
        reporter,
        network=network,
    )


@dataclass(frozen=True)
class Evaluated:
    """The results of an evaluation. Only metrics exist with `config.evaluate` "none"."""

    metrics: Metrics
    calibration: FittedCalibration | None = None
    report: StoredReport | None = None
    held_out: HeldOutPredictions | None = None
    """The predictions behind metrics and report."""

    def stored_metrics(self) -> dict[str, Any]:
        """Return the metrics as jobs and models keep them: with the calibration that requests use."""
        stored = self.metrics.model_dump(mode="json", exclude={"sentences"})
        if self.report is not None:
            stored["calibration"] = None if self.calibration is None else self.calibration.to_dict()
        return stored


def evaluate(
    context: EvalContext,
    weights: Weights,
    tests: Sequence[tuple[int, Image]],
    reporter: Reporter,
    network: nn.Module | None = None,
) -> Evaluated:
    """Evaluate on `tests` if there are any, else by cross-validation (`core.clip.data.splits`).

    With `config.evaluate` "none" the evaluation is skipped.

    Args:
        weights: the stored weights, so that the result includes the loss from quantisation.
        tests: (position in the upload, image), of trained or new classes.
        network: the network of `weights` at the α of the settings, if it exists already.

    Raises:
        BadImage: an image can't be read.
        Cancelled: the reporter requested a stop.
    """
    config, trained, scale = context.config, context.trained, context.backbone.logit_scale
    trained_images = sum(trained.class_images)
    if config.evaluate == "none":
        return Evaluated(job_metrics(None, source="none", trained_images=trained_images))
    candidates = context.candidates([*trained.class_names, *distractor_classes(trained.class_names, OTHERS)])
    text_features = build_zero_shot_classifier(
        context.backbone.model, context.backbone.tokenize, candidates.prompts[: candidates.trained]
    ).cpu()
    cross_validated = None if tests else _cross_validate(context, candidates, reporter)
    if tests:
        reporter.phase("tests")
        held_out, source = predict_test_images(context, weights, tests, reporter, network), "test"
    elif cross_validated is not None:
        held_out, source = _one_per_photo(cross_validated, trained), "cross_validation"
    else:
        held_out, source = HeldOutPredictions.none(context.candidates(trained.class_names)), "none"
    reporter.phase("report")
    rows = np.flatnonzero(held_out.truth < held_out.candidates.trained)
    calibration = fit_calibration(
        held_out.adapted.trained_only[rows],
        held_out.truth[rows],
        logit_scale=scale,
        alpha=config.alpha,
    )
    judgement = judge(held_out, scale)
    label_issues, label_accuracy = agreed_label_issues(context, text_features, cross_validated)
    report = build_report(
        held_out,
        source=source,
        how=how_measured(source, len(held_out.truth), trained_images, held_out.fold_models),
        trained_images=trained.class_images,
        alpha=config.alpha,
        logit_scale=scale,
        calibration=calibration,
        judgement=judgement,
        label_issues=label_issues,
        label_accuracy=label_accuracy,
        limits=rejection_limits(weights.shots, config.alpha),
    )
    metrics = job_metrics(held_out, judgement.verdict, source=source, trained_images=trained_images)
    return Evaluated(metrics, calibration, report, held_out)


def warn_of_unrecognised_classes(
    context: EvalContext, weights: Weights, network: nn.Module, reporter: Reporter
) -> None:
    """Warn of each class of `MIN_IMAGES` or more shots of which the model recognises fewer than half."""
    backbone, alpha, names = context.backbone, context.config.alpha, context.trained.class_names
    if weights.shots is None or alpha == 0:
        return
    candidates = context.candidates(names)
    texts = build_zero_shot_classifier(network, backbone.tokenize, candidates.prompts).cpu()
    shots, labels = weights.shots.at(alpha), weights.shots.labels
    rule = adapted_rule((shots, labels), texts, candidates.classes, backbone.logit_scale)
    right = labels[rule.scores(shots).argmax(dim=1) == labels].bincount(minlength=len(names)).tolist()
    counts = zip(names, right, labels.bincount(minlength=len(names)).tolist(), strict=True)
    found = [f"{name!r} ({own} of {n})" for name, own, n in counts if n >= MIN_IMAGES and 2 * own < n]
    if found:
        more = f" and {len(found) - MAX_NAMES} more classes" if len(found) > MAX_NAMES else ""
        reporter.warn(
            "unrecognised_classes",
            "The trained model recognises fewer than half of the training images of "
            f"{', '.join(found[:MAX_NAMES])}{more}. Check their labels, or merge classes that look alike.",
        )


def _one_per_photo(predictions: HeldOutPredictions, trained: TrainingSet) -> HeldOutPredictions:
    """Return one prediction per photo: three images of a burst are no more evidence than one."""
    photos = trained.photos[np.searchsorted(trained.positions, predictions.positions)]
    return predictions[np.sort(np.unique(photos, return_index=True)[1])]


def _cross_validate(
    context: EvalContext, candidates: Candidates, reporter: Reporter
) -> HeldOutPredictions | None:
    """Cross-validate. Return None if there are too few images or if a fold model fails."""
    trained = context.trained
    folds = make_folds(trained.labels, context.config.seed, trained.photos.tolist())
    if not folds:
        return None
    reporter.phase("folds")
    try:
        return cross_validate(context, folds, candidates, reporter)
    except (OutOfMemory, TrainingDiverged, RuntimeError, MemoryError) as error:
        if not isinstance(error, (OutOfMemory, TrainingDiverged)) and not is_out_of_memory(error):
            raise
        reporter.warn(
            "report_failed",
            "The model is trained but not evaluated, because cross-validation failed. Measure it with "
            f"test images: `clipcite evaluate`. Reason: {error}",
        )
        return None
