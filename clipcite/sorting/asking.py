"""Answers of the service for the images of a sort, in parts that the log keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from clipcite.client.classification import CLASSIFY_BATCH_SIZE, ClassNames
from clipcite.client.errors import UnprocessableEntityError
from clipcite.sorting.log import Answer, Log
from clipcite.sorting.plan import Image

if TYPE_CHECKING:
    from clipcite.client._sync.client import Client

PART_BYTES = 64_000_000
"""Maximum size of the images in a request, unless it has one image only."""
RANKED = 2
"""Classes per image."""


def ask(
    client: Client,
    log: Log,
    images: Sequence[Image],
    names: ClassNames | None,
    on_done: Callable[[int], None],
) -> None:
    """Ask for the images that the log has no answers for, and log each part of the answers."""
    waiting = [image for image in images if image.key not in log.answers]
    on_done(len(images) - len(waiting))
    for part in _parts(waiting):
        answers = _answers(client, log.subject["model"], part, names)
        log.write(*({"image": image.key, "answer": asdict(answer)} for image, answer in answers))
        on_done(len(part))


def _answers(
    client: Client, model: str, part: Sequence[Image], names: ClassNames | None
) -> Iterator[tuple[Image, Answer]]:
    """Yield the answer for each image of one request."""
    sent = []
    for image in part:
        try:
            image.path.open("rb").close()
            sent.append(image)
        except OSError as error:
            yield image, Answer(error=error.strerror or str(error))
    if not sent:
        return
    try:
        answer = client.classify([image.path for image in sent], names, model=model, top_k=RANKED)
    except UnprocessableEntityError as error:
        if error.code != "bad_images":
            raise
        yield from (
            (image, Answer(error=item.detail)) for image, item in zip(sent, error.errors, strict=True)
        )
        return
    for image, result in zip(sent, answer, strict=True):
        ranked = [(each.class_name, each.probability) for each in result.predictions]
        reason = None if result.error is None else result.error.detail
        yield image, Answer(ranked, reason, calibrated=answer.calibration.calibrated)


def _parts(images: Iterable[Image]) -> Iterator[list[Image]]:
    """Yield the images of each request, few if their files are large."""
    part: list[Image] = []
    for image in images:
        full = len(part) == CLASSIFY_BATCH_SIZE or sum(each.bytes for each in part) + image.bytes > PART_BYTES
        if part and full:
            yield part
            part = []
        part.append(image)
    if part:
        yield part
