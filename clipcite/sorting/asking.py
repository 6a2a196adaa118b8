"""Answers of the service for the images of a sort: in parts that the log keeps, then as a collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING, TypeVar

from clipcite.cli.classify import is_stock
from clipcite.client.classification import CLASSIFY_BATCH_SIZE, ClassNames, unreadable
from clipcite.errors import UnprocessableEntityError
from clipcite.sorting.log import Answer, Log, Ranked
from clipcite.sorting.plan import Image
from clipcite.types.classify import MAX_COLLECTION_IMAGES

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client
    from clipcite.types.predictions import ImageResult

RANKED = 2
"""Classes per image."""
T = TypeVar("T")


def ask(
    client: Client,
    log: Log,
    images: Sequence[Image],
    names: ClassNames | None,
    on_done: Callable[[int], None],
) -> None:
    """Classify the images that are not in the log yet, and log each part of the answers.

    A file that can't be opened is not logged: the next run tries it again.
    """
    waiting = [
        image
        for image in images
        if image.key not in log.answers or log.answers[image.key].changed != image.changed
    ]
    on_done(len(images) - len(waiting))
    reject = not is_stock(log.subject["model"])
    for start in range(0, len(waiting), CLASSIFY_BATCH_SIZE):
        part = waiting[start : start + CLASSIFY_BATCH_SIZE]
        sent = []
        for image in part:
            try:
                image.path.open("rb").close()
                sent.append(image)
            except OSError as error:
                log.answers[image.key] = Answer(error=error.strerror or str(error))
        if sent:
            model = log.subject["model"]
            answers, reject = _rejecting(partial(_answers, client, model, sent, names), reject)
            pairs = zip(sent, answers, strict=True)
            log.write(
                *(
                    {"image": image.key, "answer": asdict(replace(answer, changed=image.changed))}
                    for image, answer in pairs
                )
            )
        on_done(len(part))


def ask_again(
    client: Client, log: Log, images: Sequence[Image], names: ClassNames | None, suggest: int
) -> tuple[str | None, list[Image]]:
    """Ask for all images as a collection, whose images are evidence for each other, unless it is done.

    Labels count as training images at once, also of classes that only they name.

    Returns:
        The service's sentence on what it did with the collection, and the `suggest` images to label next:
        the least sure ones if there are too many for a collection.
    """
    readable = [image for image in images if log.answers[image.key].features]
    if len(readable) > MAX_COLLECTION_IMAGES:
        unlabelled = [image for image in readable if image.key not in log.labels]
        return None, nsmallest(suggest, unlabelled, lambda image: log.answers[image.key].ranked[0][1])
    done = not suggest and not log.labels and all(log.answers[image.key].in_collection for image in readable)
    if done or not readable:
        return None, []
    labels = {
        position: log.labels[image.key] for position, image in enumerate(readable) if image.key in log.labels
    }
    known = {name.casefold() for name in log.subject["classes"]}
    new = dict.fromkeys(name for name in labels.values() if name and name.casefold() not in known)
    ask = partial(
        client.classify_collection,
        [log.answers[image.key].features or "" for image in readable],
        {**log.subject["classes"], **new} if new else names,
        model=log.subject["model"],
        top_k=RANKED,
        suggest=suggest,
        labels=labels,
    )
    reject = None in labels.values() or not is_stock(log.subject["model"])
    answer, _ = _rejecting(lambda reject: ask(reject=reject), reject)
    calibrated = answer.calibration.temperature is not None
    log.write(
        *(
            {
                "image": image.key,
                "collection": _ranked(result),
                "calibrated": calibrated,
                "rejected": bool(result.rejected),
            }
            for image, result in zip(readable, answer, strict=True)
        )
    )
    return answer.reason, [readable[position] for position in answer.suggested]


def _rejecting(ask: Callable[[bool], T], reject: bool) -> tuple[T, bool]:
    """Ask with `reject`, unless the model has no training images. Return the answer, and whether it has."""
    if reject:
        try:
            return ask(True), True
        except UnprocessableEntityError as error:
            if error.code != "no_training_images":
                raise
    return ask(False), False


def _answers(
    client: Client, model: str, sent: Sequence[Image], names: ClassNames | None, reject: bool
) -> list[Answer]:
    """Return the answer for each image of one request."""
    paths = [image.path for image in sent]
    try:
        answer = client.classify(paths, names, model=model, top_k=RANKED, features=True, reject=reject)
        results, calibrated = answer.results, answer.calibration.temperature is not None
    except UnprocessableEntityError as error:
        if error.code != "bad_images":
            raise
        results, calibrated = unreadable(error, [image.key for image in sent]), False
    return [
        Answer(
            _ranked(result),
            None if result.error is None else result.error.detail,
            result.features,
            calibrated,
            rejected=bool(result.rejected),
        )
        for result in results
    ]


def _ranked(result: ImageResult) -> Ranked:
    return [(each.class_name, each.probability) for each in result.predictions]
