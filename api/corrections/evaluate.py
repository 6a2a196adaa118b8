"""Evaluation of a model on labelled images, in parts, so that other requests run in between."""

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from api.classify.scoring import Images, classify
from api.jobs.upload import ValidatedUpload
from api.serving.service import Serving
from clipcite.types.classify import ClassIn, Options
from clipcite.types.feedback import EvaluatedClass, Evaluation, Mistake
from clipcite.types.folders import warn
from clipcite.types.images import Image
from clipcite.types.predictions import ImageResult
from clipcite.types.problems import Notice
from core.admission import ServerBusy
from core.clip.evaluation.accuracy import accuracy_interval
from core.clip.prompts import same_class
from core.store.db.tables import Model

Results = list[ImageResult]
PART = 32
"""Number of images that are classified at a time."""
TURN_SECONDS = 60.0
"""Maximum time for retries of a part (seconds)."""


def evaluate(serving: Serving, model: Model, checked: ValidatedUpload, owner: str) -> Evaluation:
    """Compare the predictions of a model and of its pre-trained model with labels.

    The candidates are the classes of the model and of the images.

    Raises:
        ServerBusy: other requests use the budget, or a part was not computed in time.
        ExpectedError: the model can't be loaded.
    """
    spelling = {same_class(name): name for name in model.classes}
    labels = [spelling.setdefault(same_class(image.class_name), image.class_name) for image in checked.images]
    prompts = {same_class(name): sentences for name, sentences in model.prompts.items()}
    names = [
        ClassIn(name=name, prompts=prompts[key]) if key in prompts else name for key, name in spelling.items()
    ]
    options = Options.model_construct(class_names=names, templates=model.templates, top_k=1)
    warnings = list(checked.warnings)
    new = [name for name in spelling.values() if name not in model.classes]
    warn(warnings, "new_classes", "The model was not trained on {names}: scored as new classes", new)

    right: list[bool] = []
    stock_right: list[bool] = []
    images, correct = Counter[str](), Counter[str]()
    mistakes = []
    parts = [checked.images[start : start + PART] for start in range(0, len(labels), PART)]
    size = max(sum(image.bytes for image in part) for part in parts)
    with serving.images.hold(owner, 2 * len(parts[0])), serving.memory.hold(owner, size):
        results = [_classified(serving, model, part, options) for part in parts]
    for part, (adapted, stock), start in zip(parts, results, range(0, len(labels), PART), strict=True):
        for image, label, best, plain in zip(part, labels[start:], adapted, stock, strict=False):
            if best.error is not None:  # rare, because it was decoded before
                warnings.append({"code": "bad_image", "detail": f"{image.file_name} was skipped."})
                continue
            predicted = best.predictions[0].class_name
            right.append(predicted == label)
            stock_right.append(plain.predictions[0].class_name == label)
            images[label] += 1
            correct[label] += right[-1]
            if not right[-1]:
                probability = best.predictions[0].probability
                mistakes.append(
                    Mistake(
                        file=image.file_name, class_name=label, predicted=predicted, probability=probability
                    )
                )
    accuracy = accuracy_interval(np.array(right))
    return Evaluation(
        images=len(right),
        correct=sum(right),
        accuracy=accuracy.value,
        interval=(accuracy.low, accuracy.high),
        stock_accuracy=sum(stock_right) / len(right),
        classes=[
            EvaluatedClass(name=name, images=images[name], correct=correct[name])
            for name in spelling.values()
            if images[name]
        ],
        mistakes=sorted(mistakes, key=lambda mistake: -mistake.probability),
        warnings=[Notice(**warning) for warning in warnings],
    )


def _classified(
    serving: Serving, model: Model, part: Sequence[Image], options: Options
) -> tuple[Results, Results]:
    """Return the results of the model and of the pre-trained one. Retry while the service is overloaded."""
    until = time.monotonic() + TURN_SECONDS
    plain = options.model_copy(update={"alpha": 0.0})  # the pre-trained model at the model's image size
    while True:
        try:
            images = Images([image.read() for image in part], serving)
            adapted, stock = (
                classify(serving, images, asked, model, take=lambda more: None) for asked in (options, plain)
            )
            return adapted.results, stock.results
        except ServerBusy:
            if time.monotonic() > until:
                raise
            time.sleep(1)
