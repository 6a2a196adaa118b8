"""The routes of jobs."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from clipcite.client.multipart import Multipart, OnUpload
from clipcite.client.report_types import Preflight, Report
from clipcite.client.request import Call, Page, Request, at, nothing, one, page
from clipcite.client.types import Event, Job, Status
from clipcite.client.upload import Upload

OnBadImage = Literal["fail", "skip"]
CHECK_SECONDS = 900
"""The service looks at every image before it answers an upload."""


def adapt(
    upload: Upload,
    extends: str | None,
    config: Mapping[str, Any] | None,
    on_bad_image: OnBadImage,
    on_upload: OnUpload | None,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    name: str | None = None,
    webhook: str | None = None,
) -> Request:
    """`extends`: the model whose images are taken as well."""
    given = {"name": name, "config": json.dumps(config) if config else None, "webhook": webhook}
    fields = [(field, value) for field, value in given.items() if value is not None]
    return Request(
        "POST",
        "/adapt" if extends is None else at("models", extends, "extend"),
        query or {},
        headers or {},
        Multipart([*fields, ("on_bad_image", on_bad_image), *upload.fields], upload.parts),
        on_upload,
        answer_seconds=CHECK_SECONDS,
    )


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
