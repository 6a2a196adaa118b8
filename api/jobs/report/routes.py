"""GET /jobs/{id}/report: whether to trust a model, as JSON or as a page."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from api.deps import BlobsDep, CurrentOwner, DatabaseDep, ServingDep
from api.jobs.report.schemas import Report
from api.jobs.report.service import answer_report
from api.problems import responses

router = APIRouter(prefix="/jobs", tags=["jobs"])
PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The report; with `Accept: text/html` a page of its own, images included.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/{job_id}/report",
    response_model=Report,
    responses={**PAGE, **responses(401, 404, 422, 503)},
)
def get_report(
    database: DatabaseDep,
    blobs: BlobsDep,
    serving: ServingDep,
    owner: CurrentOwner,
    job_id: str,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """What was gained and lost: stock, preview and adapted network compared on images that were not
    trained on, the likely wrong labels, and how far probabilities can be believed. It is stored with the
    job's images and goes with them when the job is deleted."""
    return answer_report(database, blobs, serving, owner, job_id, accept)
