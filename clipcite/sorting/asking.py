"""Answers of the service for the images of a sort: in parts that the log keeps, then as a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from heapq import nsmallest
from typing import TYPE_CHECKING

from clipcite.client.classification import CLASSIFY_BATCH_SIZE, ClassNames, unreadable
from clipcite.client.errors import UnprocessableEntityError
from clipcite.sorting.log import Answer, Log, Ranked
from clipcite.sorting.plan import Image
from clipcite.wire.classify import MAX_COLLECTION_IMAGES

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client
    from clipcite.wire.predictions import ImageResult

RANKED = 2
"""Classes per image."""


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
    waiting = [image for image in images if image.key not in log.answers]
    on_done(len(images) - len(waiting))
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
            answers = _answers(client, log.subject["model"], sent, names)
            log.write(*({"image": image.key, "answer": asdict(answer)} for image, answer in answers))
        on_done(len(part))


def ask_again(
    client: Client, log: Log, images: Sequence[Image], names: ClassNames | None, suggest: int
) -> tuple[str | None, list[Image]]:
    """Ask for all images as a collection, whose images are evidence for each other, unless it is done.

    Returns:
        The service's sentence on what it did with the collection, and the `suggest` images to label next:
        the least sure ones if there are too many for a collection.
    """
    readable = [image for image in images if log.answers[image.key].features]
    if len(readable) > MAX_COLLECTION_IMAGES:
        unlabelled = [image for image in readable if image.key not in log.labels]
        return None, nsmallest(suggest, unlabelled, lambda image: log.answers[image.key].ranked[0][1])
    if not readable or (not suggest and all(log.answers[image.key].in_collection for image in readable)):
        return None, []
    answer = client.classify_collection(
        [log.answers[image.key].features or "" for image in readable],
        names,
        model=log.subject["model"],
        top_k=RANKED,
        suggest=suggest,
        labelled=[position for position, image in enumerate(readable) if image.key in log.labels],
    )
    calibrated = answer.calibration.temperature is not None
    pairs = zip(readable, map(_ranked, answer), strict=True)
    log.write(*({"image": i.key, "collection": ranked, "calibrated": calibrated} for i, ranked in pairs))
    return answer.reason, [readable[position] for position in answer.suggested]


def _answers(
    client: Client, model: str, sent: Sequence[Image], names: ClassNames | None
) -> Iterator[tuple[Image, Answer]]:
    """Yield the answer for each image of one request."""
    paths = [image.path for image in sent]
    try:
        answer = client.classify(paths, names, model=model, top_k=RANKED, features=True)
        results, calibrated = answer.results, answer.calibration.temperature is not None
    except UnprocessableEntityError as error:
        if error.code != "bad_images":
            raise
        results, calibrated = unreadable(error, [image.key for image in sent]), False
    for image, result in zip(sent, results, strict=True):
        reason = None if result.error is None else result.error.detail
        yield image, Answer(_ranked(result), reason, result.features, calibrated)


def _ranked(result: ImageResult) -> Ranked:
    return [(each.class_name, each.probability) for each in result.predictions]
