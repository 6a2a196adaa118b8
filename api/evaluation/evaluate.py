"""Evaluation of a model on labelled images, in parts, so that other requests run in between."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from api.classify.scoring import Images, classify
from api.jobs.upload import ValidatedUpload
from api.serving.service import Serving
from clipcite.types.class_names import same_class
from clipcite.types.classify import ClassName, ImageResult, Options
from clipcite.types.evaluation import EvaluatedClass, Evaluation, Mistake
from clipcite.types.folders import warn
from clipcite.types.images import Image
from clipcite.types.problems import Notice
from clipcite.types.report import (
    MAX_CONFUSION_CLASSES,
    AllClasses,
    ComparedAccuracies,
    MeasuredOn,
    Metrics,
    Verdict,
)
from core.admission import patiently
from core.clip.evaluation.accuracy import accuracy_interval, difference_interval
from core.clip.evaluation.report_text import verdict_sentences
from core.store.db.tables import Model

Results = list[ImageResult]
PART = 32
"""Number of images that are classified at a time."""


def evaluate(
    serving: Serving, model: Model, checked: ValidatedUpload, owner: str
) -> tuple[Evaluation, Metrics]:
    """Compare the predictions of a model and of its pre-trained model with labels.

    The candidates are the classes of the model and of the images.

    Raises:
        ServerBusy: other requests use the budget, or a part was not computed in time.
        ExpectedError: the model can't be loaded.
    """
    spelling = {same_class(name): name for name in model.classes}
    labels = [spelling.setdefault(same_class(image.class_name), image.class_name) for image in checked.images]
    names, warnings = list(spelling.values()), list(checked.warnings)
    options = Options.model_construct(class_names=[*map(ClassName, names)], top_k=1)
    warn(
        warnings,
        "new_classes",
        "The model was not trained on {names}: scored as new classes",
        names[len(model.classes) :],
    )
    column = {name: number for number, name in enumerate(names)}

    truth: list[int] = []
    now: list[int] = []
    before: list[int] = []
    mistakes = []
    parts = [checked.images[start : start + PART] for start in range(0, len(labels), PART)]
    size = max(sum(image.bytes for image in part) for part in parts)
    with serving.images.hold(owner, 2 * len(parts[0])), serving.memory.hold(owner, size):
        results = [patiently(partial(_classified, serving, model, part, options)) for part in parts]
    for part, (adapted, stock), start in zip(parts, results, range(0, len(labels), PART), strict=True):
        for image, label, best, plain in zip(part, labels[start:], adapted, stock, strict=False):
            if best.error is not None:  # rare, because it was decoded before
                warnings.append({"code": "bad_image", "detail": f"{image.file_name} was skipped."})
                continue
            predicted, probability = best.predictions[0].class_name, best.predictions[0].probability
            truth.append(column[label])
            now.append(column[predicted])
            before.append(column[plain.predictions[0].class_name])
            if predicted != label:
                mistakes.append(
                    Mistake(
                        file=image.file_name, class_name=label, predicted=predicted, probability=probability
                    )
                )
    measured, new = Predicted.of(truth, now, before), np.array(truth) >= len(model.classes)
    verdict = measured.verdict()
    everything = measured.compared()
    assert everything is not None  # there is an image
    assert everything.interval is not None
    trained = ((model.metrics or {}).get("measured_on") or {}).get("trained_images", 0)
    metrics = Metrics(
        measured_on=MeasuredOn(source="test", images=len(truth), trained_images=trained),
        trained_classes=None if new.any() else everything,
        all_classes=AllClasses(
            trained=measured[~new].compared(), new=measured[new].compared(), all=everything
        ),
        verdict=verdict,
    )
    confusion, stock_confusion = measured.confusion(len(names)), measured.stock_right(len(names))
    shown = [i for i in range(len(names)) if confusion[i].any() or confusion[:, i].any()]
    evaluation = Evaluation(
        images=len(truth),
        correct=int(np.trace(confusion)),
        accuracy=everything.adapted,
        interval=everything.interval,
        stock_accuracy=everything.stock,
        difference=everything.difference,
        verdict=verdict,
        sentences=verdict_sentences(metrics),
        classes=[
            EvaluatedClass(
                name=names[i],
                images=int(confusion[i].sum()),
                correct=int(confusion[i, i]),
                stock_correct=int(stock_confusion[i]),
            )
            for i in shown
        ],
        confusion_matrix=confusion[np.ix_(shown, shown)].tolist()
        if len(shown) <= MAX_CONFUSION_CLASSES
        else None,
        mistakes=sorted(mistakes, key=lambda mistake: -mistake.probability),
        warnings=[Notice(**warning) for warning in warnings],
        created_at=datetime.now(UTC),
    )
    return evaluation, metrics


@dataclass(frozen=True)
class Predicted:
    """True and predicted classes of N images, as positions [N]."""

    truth: NDArray[np.int64]
    now: NDArray[np.int64]
    before: NDArray[np.int64]

    @classmethod
    def of(cls, *columns: Sequence[int]) -> "Predicted":
        return cls(*(np.array(column, np.int64) for column in columns))

    def __getitem__(self, rows: NDArray[np.bool_]) -> "Predicted":
        return Predicted(self.truth[rows], self.now[rows], self.before[rows])

    def compared(self) -> ComparedAccuracies | None:
        """Return the accuracies of both models. None without images."""
        if not len(self.truth):
            return None
        now, before = self.now == self.truth, self.before == self.truth
        accuracy = accuracy_interval(now)
        return ComparedAccuracies(
            stock=float(before.mean()),
            adapted=accuracy.value,
            interval=(accuracy.low, accuracy.high),
            difference=difference_interval(now, before),
        )

    def verdict(self) -> Verdict:
        from core.clip.evaluation.verdict import compare  # it imports scipy.stats, which nothing else needs

        right = ((answer == self.truth).astype(np.float64) for answer in (self.before, self.now))
        return compare(*right).verdict

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """Return the images [C, C] per true class and predicted one."""
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.truth, self.now), 1)
        return counts

    def stock_right(self, classes: int) -> NDArray[np.int64]:
        """Return the images [C] of each class that the pre-trained model classifies correctly."""
        return np.bincount(self.truth[self.before == self.truth], minlength=classes)


def _classified(
    serving: Serving, model: Model, part: Sequence[Image], options: Options
) -> tuple[Results, Results]:
    """Return the results of the model and of the pre-trained one."""
    plain = options.model_copy(update={"alpha": 0.0})  # the pre-trained model at the model's image size
    images = Images([image.read() for image in part], serving)
    adapted, stock = (
        classify(serving, images, asked, model, take=lambda more: None) for asked in (options, plain)
    )
    return adapted.results, stock.results
