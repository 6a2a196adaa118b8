"""The routes of models, their aliases, and classification."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from types import EllipsisType
from typing import Any, Literal

from clipcite.client.errors import UnprocessableEntityError
from clipcite.client.multipart import JsonBody, Multipart, OnUpload, Part
from clipcite.client.request import Call, Page, Request, at, nothing, one, page
from clipcite.client.types import Alias, Classification, ImageResult, Model, Notice
from clipcite.datasets.image import ImageFile

Names = Sequence[str | Mapping[str, Any]] | Mapping[str, Sequence[str] | None]
"""Class names; an element or a value may bring the prompts that are read for its name."""
Format = Literal["open_clip", "onnx", "delta"]
Expected = str | None | EllipsisType
"""What an alias is believed to point to, None for nothing yet; `...`: whatever it is."""
CLASSIFY_BATCH_SIZE = 32
"""Images in one request to /classify; the service takes 64 unless set otherwise."""
CLASSIFY_SECONDS = 180
WHOLE_NETWORK_SECONDS = 600
"""Before its first byte an export is made, and before its answer an import is compared."""


def classify(
    images: Sequence[ImageFile],
    class_names: Names,
    *,
    model: str,
    alpha: float | None,
    templates: Sequence[str] | None,
    new_class_balance: float | None,
    top_k: int | None,
    coverage: float | None,
    reject: bool,
) -> Call[Classification]:
    options = {
        "alpha": alpha,
        "new_class_balance": new_class_balance,
        "top_k": top_k,
        "coverage": coverage,
        "reject": "true" if reject else None,
    }
    fields = [
        ("model", model),
        ("class_names", json.dumps(_names(class_names))),
        *((field, str(value)) for field, value in options.items() if value is not None),
        *([] if templates is None else [("templates", json.dumps(list(templates)))]),
    ]
    request = Request(
        "POST",
        "/classify",
        headers=_routing_key(model),
        body=Multipart(fields, [Part("images", image) for image in images]),
        answer_seconds=CLASSIFY_SECONDS,
    )
    return Call(request, one(Classification))


def join_answers(
    answers: Sequence[Classification], refused: Mapping[int, UnprocessableEntityError]
) -> Classification:
    """Join the answers to several requests into one.

    Args:
        answers: of the requests with a readable image, in order.
        refused: of the other requests, by the number of the request.
    """
    if len(answers) == 1 and not refused:
        return answers[0]
    rest = iter(answers)
    results: list[ImageResult] = []
    raw: list[Any] = []
    for number in range(len(answers) + len(refused)):
        error = refused.get(number)
        if error is None:
            answer = next(rest)
            results += answer.results
            raw += answer.raw["results"]
        else:
            for item in error.errors:
                notice = Notice(item.code or error.code, item.detail)
                results.append(ImageResult(item.file, error=notice))
                raw.append({"file": item.file, "predictions": None, "error": asdict(notice)})
    times = {name: sum(answer.timing_ms[name] for answer in answers) for name in answers[0].timing_ms}
    joined = {**answers[0].raw, "results": raw, "timing_ms": times}
    return replace(answers[0], results=results, timing_ms=times, raw=joined)


def _routing_key(model: str) -> dict[str, str]:
    """For a load balancer. It must be equal to the field; a name that no header can hold goes without."""
    fits = model.isascii() and model.isprintable() and model == model.strip()
    return {"X-Clipcite-Model": model} if fits else {}


def _names(given: Names) -> list[Any]:
    if isinstance(given, Mapping):
        return [
            name if prompts is None else {"name": name, "prompts": list(prompts)}
            for name, prompts in given.items()
        ]
    if isinstance(given, str):
        raise TypeError("class_names is a list of names, even for one.")
    return [each if isinstance(each, str) else dict(each) for each in given]


def get_model(model: str) -> Call[Model]:
    return Call(Request("GET", at("models", model)), one(Model))


def models(limit: int, after: str | None, name: str | None) -> Call[Page[Model]]:
    query = {
        "limit": str(limit),
        **({"name": name} if name is not None else {}),
        **({"after": after} if after else {}),
    }
    return Call(Request("GET", "/models", query), page(Model))


def delete_model(model: str, *, force: bool) -> Call[None]:
    request = Request("DELETE", at("models", model), {"force": "true"} if force else {})
    return Call(request, nothing, gone_is_done=True)


def rename_model(model: str, name: str | None) -> Call[Model]:
    return Call(Request("PATCH", at("models", model), body=JsonBody({"name": name})), one(Model))


def export(model: str, format: Format, alpha: float | None) -> Request:
    query = {"format": format, **({} if alpha is None else {"alpha": f"{alpha:g}"})}
    return Request(
        "GET",
        at("models", model, "export"),
        query,
        headers={"Accept": "application/zip", "Accept-Encoding": "identity"},
        answer_seconds=WHOLE_NETWORK_SECONDS,
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
    given = {
        "name": name,
        "backbone": backbone,
        "classes": None if classes is None else json.dumps(list(classes)),
        "alpha": None if alpha is None else f"{alpha:g}",
        "templates": None if templates is None else json.dumps(list(templates)),
        "prompts": None if prompts is None else json.dumps({of: list(each) for of, each in prompts.items()}),
        "delta_format": delta_format,
    }
    fields = [(field, value) for field, value in given.items() if value is not None]
    request = Request(
        "POST",
        "/models",
        body=Multipart(fields, [Part("archive", archive, "application/zip")]),
        on_upload=on_upload,
        answer_seconds=WHOLE_NETWORK_SECONDS,
    )
    return Call(request, one(Model), twice_is_harmless=False)


def aliases(name: str) -> Call[list[Alias]]:
    request = Request("GET", at("models", name, "aliases"))
    return Call(request, lambda answer: page(Alias)(answer).data)


def get_alias(name: str, alias: str) -> Call[Alias]:
    return Call(Request("GET", at("models", name, "aliases", alias)), one(Alias))


def promote(name: str, alias: str, model: str, expected: Expected) -> Call[Alias]:
    body = JsonBody({"model": model, **_expected(expected)})
    return Call(Request("PUT", at("models", name, "aliases", alias), body=body), one(Alias))


def rollback(name: str, alias: str, expected: Expected) -> Call[Alias]:
    request = Request(
        "POST", at("models", name, "aliases", alias, "rollback"), body=JsonBody(_expected(expected))
    )
    return Call(request, one(Alias), twice_is_harmless=False)


def delete_alias(name: str, alias: str) -> Call[None]:
    return Call(Request("DELETE", at("models", name, "aliases", alias)), nothing, gone_is_done=True)


def _expected(expected: Expected) -> dict[str, str | None]:
    return {} if isinstance(expected, EllipsisType) else {"expected": expected}
