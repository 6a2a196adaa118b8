"""GET /jobs/{id}/report: the stored report as JSON or as a page."""

import base64
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ServingDep
from api.http.problems import responses
from api.jobs.images import PRIVATE, jpeg_thumbnail
from api.jobs.report.render import CONTENT_SECURITY_POLICY, render_page, shown_images
from api.serving.service import Serving
from api.threads import UPLOADS
from clipcite.types.jobs import FINAL
from clipcite.types.problems import ProblemAction
from clipcite.types.report import Metrics, Report
from core.clip.errors import BadImage
from core.clip.evaluation.report_text import report_sentences
from core.store.db.tables import FAILED, SUCCEEDED, Job, JobImage
from core.store.errors import BlobNotFound, NotFound, ReportPending
from core.store.jobs import jobs, lifecycle
from core.store.storage.blobs import Blobs

router = APIRouter(prefix="/jobs", tags=["jobs"])
REPORT_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    **PRIVATE,
}
THUMBNAIL_SIDE = 144
PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report, or with `Accept: text/html` a self-contained page with thumbnails.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/{job_id}/report",
    response_model=Report,
    responses={**PAGE, **responses(401, 404, 422, 503)},
)
@UPLOADS.runs
def get_report(
    request: Request,
    database: DatabaseDep,
    blobs: BlobsDep,
    serving: ServingDep,
    owner: CurrentOwner,
    job_id: str,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Return the evaluation of a job: should the model be used?

    The report compares the stock and the adapted model on images that were not used for training. It also
    lists changed predictions, label issues and mistakes, and checks the calibration of the probabilities.
    Deleting the job deletes its report.
    """
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        rows = jobs.images(session, job_id)
    report = _stored(blobs, job, rows)
    if not _wants_page(accept):
        return JSONResponse(report.model_dump(mode="json"), headers={"Vary": "Accept"})
    shown = shown_images(report)
    keys = {row.position: row.blob_key for row in rows if row.position in shown}
    page = render_page(
        report,
        thumbnails(serving, keys),
        name=job.name,
        backbone=job.config["backbone"],
        date=job.finished_at,
        service_url=str(request.base_url),
    )
    return HTMLResponse(page, headers={**REPORT_HEADERS, "Vary": "Accept"})


def _stored(blobs: Blobs, job: Job, rows: list[JobImage]) -> Report:
    """Return the stored report with file names. Raise ReportPending or NotFound if it does not exist."""
    if job.model_id is not None and job.status not in FINAL:
        raise ReportPending(job.id)
    if job.status != SUCCEEDED or job.model_id is None:
        if job.status == FAILED:
            found = ProblemAction.of("GET /jobs/{job_id}", job_id=job.id)
            text = "The job has failed, so it has no report. See `error` in "
            raise NotFound("report_not_found", text, found, ".")
        wait = ProblemAction.of("GET /jobs/{job_id}", job_id=job.id, wait="60")
        text = "There is no report before the job has succeeded. Wait with "
        raise NotFound("report_not_found", text, wait, ".")
    for notice in job.warnings:
        if notice["code"] in lifecycle.EVALUATION_SKIPPED:
            raise NotFound("report_not_found", f"The job has no report. {notice['detail']}")
    if job.report_key is None:
        raise NotFound(
            "report_not_found",
            'The job has no report, because it ran with `evaluate` "none". Train again with ',
            ProblemAction.of("POST /adapt"),
            " to get one.",
        )
    stored = json.loads(blobs.get(job.report_key))
    names = {row.position: row.file_name for row in rows}
    report = Report.model_validate({"job_id": job.id, "model_id": job.model_id, **stored})
    report.sentences = report_sentences(report, Metrics.model_validate(job.metrics))
    for image in report.images():
        image.file_name = names.get(image.position)
    return report


def _wants_page(accepted: str) -> bool:
    """Return whether text/html comes first in the Accept header, as in browsers' requests."""
    page, plain = accepted.find("text/html"), accepted.find("application/json")
    return page >= 0 and (plain < 0 or page < plain)


def thumbnails(serving: Serving, keys: Mapping[int, str]) -> dict[int, str]:
    """Return thumbnails as `data:` URLs by position. Leave out images that are missing or unreadable."""

    def data_url(key: str) -> str | None:
        try:
            jpeg = jpeg_thumbnail(serving, key, THUMBNAIL_SIDE)
        except (BadImage, BlobNotFound):
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

    made = {position: data_url(key) for position, key in keys.items()}
    return {position: url for position, url in made.items() if url is not None}
