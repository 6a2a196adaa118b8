"""The routes of jobs."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from clipcite.client.multipart import Multipart, OnUpload, Part
from clipcite.client.report_types import Preflight, Report
from clipcite.client.request import Call, Page, Request, at, nothing, one, page
from clipcite.client.types import Event, Job, Status

OnBadImage = Literal["fail", "skip"]
CHECK_SECONDS = 900
"""The service looks at every picture before it answers an upload."""


def adapt(
    fields: Sequence[tuple[str, str]],
    parts: Sequence[Part],
    *,
    extends: str | None,
    name: str | None,
    config: Mapping[str, Any],
    on_bad_image: OnBadImage,
    webhook: str | None,
    idempotency_key: str | None,
    on_upload: OnUpload | None,
) -> Call[Job]:
    """`extends`: the model whose pictures are taken as well."""
    settings = [*_settings(name, config), *([] if webhook is None else [("webhook", webhook)])]
    request = Request(
        "POST",
        _adapt_path(extends),
        headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        body=Multipart([*settings, ("on_bad_image", on_bad_image), *fields], parts),
        on_upload=on_upload,
        answer_seconds=CHECK_SECONDS,
    )
    return Call(request, one(Job))


def dry_run(
    fields: Sequence[tuple[str, str]],
    parts: Sequence[Part],
    *,
    extends: str | None,
    config: Mapping[str, Any],
    on_bad_image: OnBadImage,
    on_upload: OnUpload | None,
) -> Call[Preflight]:
    request = Request(
        "POST",
        _adapt_path(extends),
        {"dry_run": "true"},
        body=Multipart([*_settings(None, config), ("on_bad_image", on_bad_image), *fields], parts),
        on_upload=on_upload,
        answer_seconds=CHECK_SECONDS,
    )
    return Call(request, one(Preflight))


def _adapt_path(extends: str | None) -> str:
    return "/adapt" if extends is None else at("models", extends, "extend")


def _settings(name: str | None, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = (("name", name), ("config", json.dumps(config) if config else None))
    return [(field, value) for field, value in given if value is not None]


def get_job(job_id: str, wait: float = 0) -> Call[Job]:
    query = {"wait": f"{wait:g}"} if wait else {}
    return Call(Request("GET", at("jobs", job_id), query, answer_seconds=wait + 60), one(Job))


def jobs(status: Status | None, limit: int, after: str | None) -> Call[Page[Job]]:
    query = {
        "limit": str(limit),
        **({"status": status} if status else {}),
        **({"after": after} if after else {}),
    }
    return Call(Request("GET", "/jobs", query), page(Job))


def cancel(job_id: str) -> Call[Job]:
    return Call(Request("POST", at("jobs", job_id, "cancel")), one(Job))


def delete_job(job_id: str) -> Call[None]:
    return Call(Request("DELETE", at("jobs", job_id)), nothing, gone_is_done=True)


def preflight(job_id: str) -> Call[Preflight]:
    return Call(Request("GET", at("jobs", job_id, "preflight")), one(Preflight))


def report(job_id: str) -> Call[Report]:
    return Call(Request("GET", at("jobs", job_id, "report")), one(Report))


def report_page(job_id: str) -> Call[str]:
    request = Request("GET", at("jobs", job_id, "report"), headers={"Accept": "text/html"})
    return Call(request, lambda answer: answer.body.decode())


def events(job_id: str, after: int = 0) -> Call[list[Event]]:
    request = Request("GET", at("jobs", job_id, "events"), {"after": str(after)})
    return Call(request, lambda answer: page(Event)(answer).data)


def stream(job_id: str, after: int, silence_seconds: float) -> Request:
    """The stream of the job's events with a greater `seq`."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after), "Cache-Control": "no-store"}
    return Request("GET", at("jobs", job_id, "events"), headers=headers, answer_seconds=silence_seconds)
