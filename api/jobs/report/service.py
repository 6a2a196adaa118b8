"""Response of GET /jobs/{id}/report: the stored report as JSON or as a page."""

import json

from fastapi.responses import HTMLResponse, JSONResponse, Response

from api.jobs.report.render import CONTENT_SECURITY_POLICY, render_page, shown_images
from api.jobs.report.thumbnails import thumbnails
from clipcite.wire.report import Report
from core.serving.service import Serving
from core.store.db.session import Database
from core.store.db.tables import FAILED, FINAL, SUCCEEDED, Job, JobImage
from core.store.errors import BlobNotFound, ReportNotFound, ReportPending
from core.store.jobs import endings, jobs
from core.store.storage.blobs import Blobs

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


def answer_report(
    database: Database,
    blobs: Blobs,
    serving: Serving,
    owner: str,
    job_id: str,
    *,
    accepted: str,
    service_url: str,
) -> Response:
    """Return the report as a page if `accepted` (header Accept) prefers text/html, else as JSON.

    Args:
        service_url: address of the web page, for the links of the report.

    Raises:
        JobNotFound: the owner has no such job.
        ReportPending: the model is still being evaluated.
        ReportNotFound: the job has no report.
    """
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        rows = jobs.images(session, job_id)
    report = _stored(blobs, job, rows)
    if not _wants_page(accepted):
        return JSONResponse(report.model_dump(mode="json"), headers={"Vary": "Accept"})
    shown = shown_images(report)
    keys = {row.position: row.blob_key for row in rows if row.position in shown}
    page = render_page(
        report,
        thumbnails(serving, keys, owner),
        name=job.name,
        backbone=job.config["backbone"],
        date=job.finished_at,
        service_url=service_url,
    )
    return HTMLResponse(page, headers={**HEADERS, "Vary": "Accept"})


def _stored(blobs: Blobs, job: Job, rows: list[JobImage]) -> Report:
    """Return the stored report with file names. Raise ReportPending or ReportNotFound if there is none."""
    if job.model_id is not None and job.status not in FINAL:
        raise ReportPending(job.id)
    if job.status != SUCCEEDED or job.model_id is None:
        detail = (
            f"The job has failed, so it has no report. See `error` in GET /jobs/{job.id}."
            if job.status == FAILED
            else f"There is no report before the job has succeeded. Wait with GET /jobs/{job.id}?wait=60."
        )
        raise ReportNotFound(detail)
    for notice in job.warnings:
        if notice["code"] in endings.EVALUATION_SKIPPED:
            raise ReportNotFound(f"The job has no report. {notice['detail']}")
    try:
        stored = json.loads(blobs.get(job.report_key or jobs.report_of(job.id, job.model_id)))
    except BlobNotFound as error:
        raise ReportNotFound(
            'The job has no report. It ran with `evaluate` "none", or on an older version. Train again with '
            "POST /adapt to get one."
        ) from error
    names = {row.position: row.file_name for row in rows}
    report = Report.model_validate({"job_id": job.id, "model_id": job.model_id, **stored})
    for image in (*report.fixed, *report.broken, *report.label_issues, *report.mistakes):
        image.file_name = names.get(image.position)
    return report


def _wants_page(accepted: str) -> bool:
    """Return whether text/html comes first, as in browsers' requests."""
    page, plain = accepted.find("text/html"), accepted.find("application/json")
    return page >= 0 and (plain < 0 or page < plain)
