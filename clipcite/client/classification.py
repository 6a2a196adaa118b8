"""Requests to /classify, and one answer from several responses."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from clipcite.client.errors import UnprocessableEntityError
from clipcite.client.request import BINARY, Request
from clipcite.datasets.image import ImageFile, ImageLike, as_image
from clipcite.wire.predictions import Classification, ImageResult, Timing
from clipcite.wire.problems import Notice

ClassNames = Sequence[str | Mapping[str, Any]] | Mapping[str, Sequence[str] | None]
"""Class names. An element or a value may hold the prompts of its class."""
Answer = Classification | UnprocessableEntityError
"""Response to one request; the error if none of its images is readable."""
CLASSIFY_BATCH_SIZE = 32
"""Images per request to /classify. The service accepts 64 by default."""
CLASSIFY_SECONDS = 180


def classify_request(
    images: Sequence[ImageFile], class_names: ClassNames | None, options: Mapping[str, Any]
) -> Request:
    """Build a request to /classify, and read the images. Options that are None or False are left out."""
    fields = {
        field: [json.dumps(value) if isinstance(value, list | tuple | bool) else str(value)]
        for field, value in given_options(class_names, options).items()
        if value is not False
    }
    return Request(
        "POST",
        "/classify",
        fields=fields,
        files=[("images", (image.name, image.read(), BINARY)) for image in images],
        read_seconds=CLASSIFY_SECONDS,
    )


def given_options(class_names: ClassNames | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request, without those that are None."""
    names = None if class_names is None else _names(class_names)
    return {name: value for name, value in {"class_names": names, **options}.items() if value is not None}


def image_parts(images: Sequence[ImageLike]) -> Iterator[tuple[list[str], list[ImageFile]]]:
    """Yield the names and files of the images of each request.

    Raises:
        InvalidImages: an image that can't be sent.
    """
    for start in range(0, len(images), CLASSIFY_BATCH_SIZE):
        part = images[start : start + CLASSIFY_BATCH_SIZE]
        files = [as_image(image, f"image-{i}") for i, image in enumerate(part, start + 1)]
        names = [
            os.fspath(image) if isinstance(image, str | os.PathLike) else file.name
            for image, file in zip(part, files, strict=True)
        ]
        yield names, files


def part_results(names: Sequence[str], answer: Answer) -> list[ImageResult]:
    """Return the results of one request, with local file names."""
    if isinstance(answer, Classification):
        pairs = zip(answer.results, names, strict=False)
        return [result.model_copy(update={"file": name}) for result, name in pairs]
    return [
        ImageResult(file=name, error=Notice(code=item.code or answer.code, detail=item.detail))
        for item, name in zip(answer.errors, names, strict=False)
    ]


def join_answers(parts: Sequence[tuple[list[str], Answer]]) -> Classification:
    """Join the responses to several requests into one.

    Args:
        parts: local names of the images of each request, and its response.

    Raises:
        UnprocessableEntityError: no image is readable.
    """
    answers = [answer for _, answer in parts if isinstance(answer, Classification)]
    if not answers:
        first = cast(UnprocessableEntityError, parts[0][1])
        raise first.with_files([name for names, _ in parts for name in names])
    results: list[ImageResult] = []
    raw: list[Any] = []
    for names, answer in parts:
        found = part_results(names, answer)
        results += found
        if isinstance(answer, Classification):
            raw += answer.raw["results"]
        else:
            raw += [{**row.model_dump(include={"file", "error"}), "predictions": None} for row in found]
    times = Timing(
        decode=sum(answer.timing_ms["decode"] for answer in answers),
        encode=sum(answer.timing_ms["encode"] for answer in answers),
        total=sum(answer.timing_ms["total"] for answer in answers),
    )
    joined = answers[0].model_copy(update={"results": results, "timing_ms": times})
    joined._raw = {**answers[0].raw, "results": raw, "timing_ms": times}
    return joined


def _names(class_names: ClassNames) -> list[Any]:
    if isinstance(class_names, Mapping):
        return [
            name if prompts is None else {"name": name, "prompts": list(prompts)}
            for name, prompts in class_names.items()
        ]
    if isinstance(class_names, str):
        raise TypeError("class_names must be a list of names, not a string.")
    return [item if isinstance(item, str) else dict(item) for item in class_names]
