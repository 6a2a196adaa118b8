"""Every route: the request, and how its answer is read."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from client.http.answers import Classification, Event, Job, Model, Readiness, Status
from client.http.body import Multipart, OnUpload, Part
from client.http.parse import UnexpectedAnswer, parse
from client.http.steps import Answer, Request
from client.pictures.picture import Picture

T = TypeVar("T")
Names = Sequence[str | Mapping[str, Any]] | Mapping[str, Sequence[str] | None]
"""Class names; an element or a value may bring the texts that are read for its name."""
OnBadImage = Literal["fail", "skip"]
CHECK_SECONDS = 900
"""The service looks at every picture before it answers an upload."""
CLASSIFY_SECONDS = 180


@dataclass(frozen=True)
class Page(Generic[T]):
    data: list[T]
    next_cursor: str | None


@dataclass(frozen=True)
class Call(Generic[T]):
    request: Request
    read: Callable[[Answer], T]
    gone_is_done: bool = False
    """After a lost answer a 404 means that it was done."""


def adapt(
    fields: Sequence[tuple[str, str]],
    parts: Sequence[Part],
    *,
    name: str | None,
    config: Mapping[str, Any],
    on_bad_image: OnBadImage,
    webhook: str | None,
    idempotency_key: str | None,
    on_upload: OnUpload | None,
) -> Call[Job]:
    settings = [("name", name), ("config", json.dumps(config) if config else None), ("webhook", webhook)]
    given = [(field, value) for field, value in settings if value is not None]
    request = Request(
        "POST",
        "/adapt",
        headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        body=Multipart([*given, ("on_bad_image", on_bad_image), *fields], parts),
        on_upload=on_upload,
        answer_seconds=CHECK_SECONDS,
    )
    return Call(request, _one(Job))


def classify(
    pictures: Sequence[Picture],
    class_names: Names,
    *,
    model: str,
    alpha: float | None,
    templates: Sequence[str] | None,
    new_names_balance: float | None,
    top_k: int | None,
) -> Call[Classification]:
    options = {"alpha": alpha, "new_names_balance": new_names_balance, "top_k": top_k}
    fields = [
        ("model", model),
        ("class_names", json.dumps(_names(class_names))),
        *((field, str(value)) for field, value in options.items() if value is not None),
        *([] if templates is None else [("templates", json.dumps(list(templates)))]),
    ]
    request = Request(
        "POST",
        "/classify",
        headers={"X-Clipcite-Model": quote(model, safe=":/-_.")} if model.isascii() else {},
        body=Multipart(fields, [Part("images", picture) for picture in pictures]),
        answer_seconds=CLASSIFY_SECONDS,
    )
    return Call(request, _one(Classification))


def _names(given: Names) -> list[Any]:
    if isinstance(given, Mapping):
        return [
            name if texts is None else {"name": name, "texts": list(texts)} for name, texts in given.items()
        ]
    if isinstance(given, str):
        raise TypeError("class_names is a list of names, even for one.")
    return [one if isinstance(one, str) else dict(one) for one in given]


def get_job(job_id: str, wait: float = 0) -> Call[Job]:
    query = {"wait": f"{wait:g}"} if wait else {}
    return Call(Request("GET", _at("jobs", job_id), query, answer_seconds=wait + 60), _one(Job))


def jobs(status: Status | None, limit: int, after: str | None) -> Call[Page[Job]]:
    query = {
        "limit": str(limit),
        **({"status": status} if status else {}),
        **({"after": after} if after else {}),
    }
    return Call(Request("GET", "/jobs", query), _page(Job))


def cancel(job_id: str) -> Call[Job]:
    return Call(Request("POST", f"{_at('jobs', job_id)}/cancel"), _one(Job))


def delete_job(job_id: str) -> Call[None]:
    return Call(Request("DELETE", _at("jobs", job_id)), _nothing, gone_is_done=True)


def events(job_id: str, after: int = 0) -> Call[list[Event]]:
    request = Request("GET", f"{_at('jobs', job_id)}/events", {"after": str(after)})
    return Call(request, lambda answer: _page(Event)(answer).data)


def stream(job_id: str, after: int, silence_seconds: float) -> Request:
    """The stream of the job's events with a greater `seq`."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after), "Cache-Control": "no-store"}
    return Request("GET", f"{_at('jobs', job_id)}/events", headers=headers, answer_seconds=silence_seconds)


def get_model(model_id: str) -> Call[Model]:
    return Call(Request("GET", _at("models", model_id)), _one(Model))


def models(limit: int, after: str | None) -> Call[Page[Model]]:
    return Call(
        Request("GET", "/models", {"limit": str(limit), **({"after": after} if after else {})}), _page(Model)
    )


def delete_model(model_id: str) -> Call[None]:
    return Call(Request("DELETE", _at("models", model_id)), _nothing, gone_is_done=True)


def ready() -> Call[Readiness]:
    return Call(Request("GET", "/readyz", answer_seconds=10), _one(Readiness))


def _at(resource: str, name: str) -> str:
    if name in {"", ".", ".."}:
        raise ValueError(f"{name!r} is no id.")
    return f"/{resource}/{quote(name, safe='')}"


def _one(kind: type[T]) -> Callable[[Answer], T]:
    return lambda answer: parse(kind, json_of(answer))


def _page(kind: type[T]) -> Callable[[Answer], Page[T]]:
    def read(answer: Answer) -> Page[T]:
        page = json_of(answer)
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise UnexpectedAnswer("A list was expected. Is the address that of a clipcite service?")
        return Page([parse(kind, one) for one in page["data"]], page.get("next_cursor"))

    return read


def _nothing(answer: Answer) -> None:
    """204 has no body."""


def json_of(answer: Answer) -> Any:
    """Raises UnexpectedAnswer."""
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise UnexpectedAnswer(
            "The answer is no JSON. Is the address that of a clipcite service, or of a proxy before it?"
        ) from error
