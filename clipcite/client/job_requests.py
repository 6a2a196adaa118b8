"""Requests to the routes below /jobs, and uploads to /adapt."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from clipcite.client.multipart import Multipart, OnUpload
from clipcite.client.request import Call, Page, Request, nothing, one, page, path_of
from clipcite.client.upload import Upload
from clipcite.wire.adapt import Preflight
from clipcite.wire.jobs import Delivery, Event, Job, Status
from clipcite.wire.report import Report

OnBadImage = Literal["fail", "skip"]
CHECK_SECONDS = 900
"""Read timeout of an upload: the service checks every image before it responds."""


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
    """Build an upload to /adapt, or to /models/{extends}/extend."""
    options = {"name": name, "config": json.dumps(config) if config else None, "webhook": webhook}
    fields = [(field, value) for field, value in options.items() if value is not None]
    return Request(
        "POST",
        "/adapt" if extends is None else path_of("models", extends, "extend"),
        query or {},
        headers or {},
        Multipart([*fields, ("on_bad_image", on_bad_image), *upload.fields], upload.parts),
        on_upload,
        read_seconds=CHECK_SECONDS,
    )


def get_job(job_id: str, wait: float = 0) -> Call[Job]:
    query = {"wait": f"{wait:g}"} if wait else {}
    return Call(Request("GET", path_of("jobs", job_id), query, read_seconds=wait + 60), one(Job))


def list_jobs(status: Status | None, limit: int, after: str | None) -> Call[Page[Job]]:
    query = {
        "limit": str(limit),
        **({"status": status} if status else {}),
        **({"after": after} if after else {}),
    }
    return Call(Request("GET", "/jobs", query), page(Job))


def cancel(job_id: str) -> Call[Job]:
    return Call(Request("POST", path_of("jobs", job_id, "cancel")), one(Job))


def delete_job(job_id: str) -> Call[None]:
    return Call(Request("DELETE", path_of("jobs", job_id)), nothing, gone_is_done=True)


def preflight(job_id: str) -> Call[Preflight]:
    return Call(Request("GET", path_of("jobs", job_id, "preflight")), one(Preflight))


def report(job_id: str) -> Call[Report]:
    return Call(Request("GET", path_of("jobs", job_id, "report")), one(Report))


def report_page(job_id: str) -> Call[str]:
    request = Request("GET", path_of("jobs", job_id, "report"), headers={"Accept": "text/html"})
    return Call(request, lambda response: response.body.decode())


def events(job_id: str, after: int = 0) -> Call[list[Event]]:
    request = Request("GET", path_of("jobs", job_id, "events"), {"after": str(after)})
    return Call(request, lambda response: page(Event)(response).data)


def deliveries(job_id: str) -> Call[list[Delivery]]:
    request = Request("GET", path_of("jobs", job_id, "deliveries"))
    return Call(request, lambda response: page(Delivery)(response).data)


def redeliver(job_id: str, delivery_id: str) -> Call[Delivery]:
    path = path_of("jobs", job_id, "deliveries", delivery_id, "redeliver")
    return Call(Request("POST", path), one(Delivery))


def stream(job_id: str, after: int, silence_seconds: float) -> Request:
    """Build the request for a stream of the job's events with `seq` above `after`."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after), "Cache-Control": "no-store"}
    return Request("GET", path_of("jobs", job_id, "events"), headers=headers, read_seconds=silence_seconds)
