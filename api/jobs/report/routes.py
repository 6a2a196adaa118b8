"""Route of GET /jobs/{id}/report."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ServingDep
from api.http.problems import responses
from api.jobs.report.service import answer_report
from api.threads import UPLOADS
from clipcite.wire.report import Report

router = APIRouter(prefix="/jobs", tags=["jobs"])
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

    The report compares stock, preview and adapted model on images that they were not trained on. It also
    lists changed predictions, label issues and mistakes, and checks the calibration of the probabilities.
    Deleting the job deletes its report.
    """
    return answer_report(
        database, blobs, serving, owner, job_id, accepted=accept, service_url=str(request.base_url)
    )
