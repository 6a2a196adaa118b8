"""Requests to the routes of models, aliases and classification."""

import json
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, Literal

from clipcite.client.errors import UnprocessableEntityError
from clipcite.client.multipart import FilePart, JsonBody, Multipart, OnUpload
from clipcite.client.request import Call, Page, Request, nothing, one, page, path_of
from clipcite.datasets.image import ImageFile
from clipcite.wire.classify import ROUTING_KEY
from clipcite.wire.models import Alias, Model
from clipcite.wire.predictions import Classification, ImageResult, Timing
from clipcite.wire.problems import Notice

ClassNames = Sequence[str | Mapping[str, Any]] | Mapping[str, Sequence[str] | None]
"""Class names. An element or a value may hold the prompts of its class."""
Format = Literal["open_clip", "onnx", "delta"]
ExpectedModel = str | None | EllipsisType
"""The model that an alias must point to for a change to be made; None: no alias yet; `...`: no condition."""
CLASSIFY_BATCH_SIZE = 32
"""Images per request to /classify. The service accepts 64 by default."""
CLASSIFY_SECONDS = 180
MODEL_SECONDS = 600
"""Read timeout of exports and imports: the service builds or checks the model before it responds."""


def classify(
    images: Sequence[ImageFile],
    class_names: ClassNames | None,
    *,
    model: str,
    options: Mapping[str, float | str | Sequence[str] | None],
) -> Call[Classification]:
    """Build a request to /classify. Options that are None or False are left to the service."""
    names = None if class_names is None else _names(class_names)
    given = {"model": model, "class_names": names, **options}
    fields = [
        (field, json.dumps(value) if isinstance(value, list | bool) else str(value))
        for field, value in given.items()
        if value is not None and value is not False
    ]
    request = Request(
        "POST",
        "/classify",
        headers=_routing_key(model),
        body=Multipart(fields, [FilePart("images", image) for image in images]),
        read_seconds=CLASSIFY_SECONDS,
    )
    return Call(request, one(Classification))


def join_answers(
    answers: Sequence[Classification], refused: Mapping[int, UnprocessableEntityError], names: Sequence[str]
) -> Classification:
    """Join the responses to several requests into one.

    Args:
        answers: responses to the requests with a readable image, in order.
        refused: errors of the other requests, by request number.
        names: local name of each image.
    """
    rest = iter(answers)
    results: list[ImageResult] = []
    raw: list[Any] = []
    for number in range(len(answers) + len(refused)):
        error = refused.get(number)
        sent = names[number * CLASSIFY_BATCH_SIZE : (number + 1) * CLASSIFY_BATCH_SIZE]
        if error is None:
            answer = next(rest)
            results += [
                result.model_copy(update={"file": name})
                for result, name in zip(answer.results, sent, strict=False)
            ]
            raw += answer.raw["results"]
        else:
            for item, name in zip(error.errors, sent, strict=False):
                notice = Notice(code=item.code or error.code, detail=item.detail)
                results.append(ImageResult(file=name, error=notice))
                raw.append({"file": item.file, "predictions": None, "error": notice.model_dump()})
    first = answers[0]
    times = Timing(
        decode=sum(answer.timing_ms["decode"] for answer in answers),
        encode=sum(answer.timing_ms["encode"] for answer in answers),
        total=sum(answer.timing_ms["total"] for answer in answers),
    )
    joined = first.model_copy(update={"results": results, "timing_ms": times})
    joined._raw = {**first.raw, "results": raw, "timing_ms": times}
    return joined


def _routing_key(model: str) -> dict[str, str]:
    """Return the header for routing in a load balancer: the field `model`, if a header can hold the name."""
    fits = model.isascii() and model.isprintable() and model == model.strip()
    return {ROUTING_KEY: model} if fits else {}


def _names(class_names: ClassNames) -> list[Any]:
    if isinstance(class_names, Mapping):
        return [
            name if prompts is None else {"name": name, "prompts": list(prompts)}
            for name, prompts in class_names.items()
        ]
    if isinstance(class_names, str):
        raise TypeError("class_names must be a list of names, not a string.")
    return [item if isinstance(item, str) else dict(item) for item in class_names]


def get_model(model: str) -> Call[Model]:
    return Call(Request("GET", path_of("models", model)), one(Model))


def list_models(limit: int, after: str | None, name: str | None) -> Call[Page[Model]]:
    query = {
        "limit": str(limit),
        **({"name": name} if name is not None else {}),
        **({"after": after} if after else {}),
    }
    return Call(Request("GET", "/models", query), page(Model))


def delete_model(model: str, *, force: bool) -> Call[None]:
    request = Request("DELETE", path_of("models", model), {"force": "true"} if force else {})
    return Call(request, nothing, gone_is_done=True)


def rename_model(model: str, name: str | None) -> Call[Model]:
    return Call(Request("PATCH", path_of("models", model), body=JsonBody({"name": name})), one(Model))


def export(model: str, format: Format, alpha: float | None) -> Request:
    query = {"format": format, **({} if alpha is None else {"alpha": f"{alpha:g}"})}
    return Request(
        "GET",
        path_of("models", model, "export"),
        query,
        headers={"Accept": "application/zip", "Accept-Encoding": "identity"},
        read_seconds=MODEL_SECONDS,
    )


def import_model(
    archive: ImageFile,
    *,
    name: str | None,
    backbone: str | None,
    classes: Sequence[str] | None,
    alpha: float | None,
    templates: Sequence[str] | None,
    prompts: Mapping[str, Sequence[str]] | None,
    delta_format: str | None,
    on_upload: OnUpload | None,
) -> Call[Model]:
    options = {
        "name": name,
        "backbone": backbone,
        "classes": None if classes is None else json.dumps(list(classes)),
        "alpha": None if alpha is None else f"{alpha:g}",
        "templates": None if templates is None else json.dumps(list(templates)),
        "prompts": None
        if prompts is None
        else json.dumps({name: list(texts) for name, texts in prompts.items()}),
        "delta_format": delta_format,
    }
    fields = [(field, value) for field, value in options.items() if value is not None]
    request = Request(
        "POST",
        "/models",
        body=Multipart(fields, [FilePart("archive", archive, "application/zip")]),
        on_upload=on_upload,
        read_seconds=MODEL_SECONDS,
    )
    return Call(request, one(Model), idempotent=False)


def list_aliases(name: str) -> Call[list[Alias]]:
    request = Request("GET", path_of("models", name, "aliases"))
    return Call(request, lambda response: page(Alias)(response).data)


def get_alias(name: str, alias: str) -> Call[Alias]:
    return Call(Request("GET", path_of("models", name, "aliases", alias)), one(Alias))


def promote(name: str, alias: str, model: str, expected: ExpectedModel) -> Call[Alias]:
    body = JsonBody({"model": model, **_expected(expected)})
    request = Request("PUT", path_of("models", name, "aliases", alias), body=body)
    # After a promotion, its condition no longer holds.
    return Call(request, one(Alias), idempotent=isinstance(expected, EllipsisType))


def rollback(name: str, alias: str, expected: ExpectedModel) -> Call[Alias]:
    request = Request(
        "POST", path_of("models", name, "aliases", alias, "rollback"), body=JsonBody(_expected(expected))
    )
    return Call(request, one(Alias), idempotent=False)


def delete_alias(name: str, alias: str) -> Call[None]:
    return Call(Request("DELETE", path_of("models", name, "aliases", alias)), nothing, gone_is_done=True)


def _expected(expected: ExpectedModel) -> dict[str, str | None]:
    return {} if isinstance(expected, EllipsisType) else {"expected": expected}
