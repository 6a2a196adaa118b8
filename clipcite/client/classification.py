"""Requests to /classify, and one result from several responses."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from clipcite.client.request import BINARY, Request
from clipcite.datasets.image import ImageFile
from clipcite.errors import UnprocessableEntityError
from clipcite.types.classify import Classification, ClassifyOptions, ClassName, ImageResult, Timing
from clipcite.types.problems import Notice

ClassNamesLike = Sequence[str | Mapping[str, Any]] | Mapping[str, Sequence[str] | None]
"""Class names, as in `ClassName` or its JSON, or a mapping to the prompts of each class."""
CLASSIFY_BATCH_SIZE = 32
"""Images per request to /classify. The service accepts 64 by default."""
CLASSIFY_SECONDS = 180


def classify_request(
    images: Sequence[ImageFile],
    class_names: ClassNamesLike | None,
    model: str,
    options: ClassifyOptions,
) -> Request:
    """Build a request to /classify, and read the images. Options that are None or False are left out."""
    names = None if class_names is None else names_of(class_names)
    given = {"model": model, "class_names": names, **options}
    fields = {
        field: [json.dumps(value) if isinstance(value, list | tuple | bool) else str(value)]
        for field, value in given.items()
        if value is not None and value is not False
    }
    return Request(
        "POST",
        "/classify",
        fields=fields,
        files=[("images", (image.name, image.read(), BINARY)) for image in images],
        read_seconds=CLASSIFY_SECONDS,
    )


def unreadable(error: UnprocessableEntityError, names: Sequence[str | None]) -> list[ImageResult]:
    """Return the results of a request without readable images."""
    return [
        ImageResult(file=name, error=Notice(code=item.code or error.code, detail=item.detail))
        for item, name in zip(error.errors, names, strict=False)
    ]


def join_responses(
    responses: Sequence[Classification], refused: Mapping[int, UnprocessableEntityError], names: Sequence[str]
) -> Classification:
    """Join the responses to several requests into one.

    Args:
        responses: to the requests with readable images, in order.
        refused: errors of the other requests, by request number.
        names: local name of each image.
    """
    rest = iter(responses)
    results: list[ImageResult] = []
    raw: list[Any] = []
    for number in range(len(responses) + len(refused)):
        error = refused.get(number)
        sent = names[number * CLASSIFY_BATCH_SIZE : (number + 1) * CLASSIFY_BATCH_SIZE]
        if error is None:
            response = next(rest)
            results += [
                result.model_copy(update={"file": name})
                for result, name in zip(response.results, sent, strict=False)
            ]
            raw += response.raw["results"]
        else:
            for result in unreadable(error, sent):
                results.append(result)
                raw.append({**result.model_dump(include={"file", "error"}), "predictions": []})
    first = responses[0]
    times = Timing(
        decode=sum(response.timing_ms["decode"] for response in responses),
        encode=sum(response.timing_ms["encode"] for response in responses),
        total=sum(response.timing_ms["total"] for response in responses),
    )
    joined = first.model_copy(update={"results": results, "timing_ms": times})
    joined._raw = {**first.raw, "results": raw, "timing_ms": times}
    return joined


def names_of(class_names: ClassNamesLike) -> list[Any]:
    """Return class names as the service takes them."""
    if isinstance(class_names, Mapping):
        names = [ClassName(name, None if own is None else tuple(own)) for name, own in class_names.items()]
        return [each.as_json() for each in names]
    if isinstance(class_names, str):
        raise TypeError("class_names must be a list of names, not a string.")
    return [item if isinstance(item, str) else dict(item) for item in class_names]
