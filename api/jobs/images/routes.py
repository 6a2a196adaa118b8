"""Routes of the images of a job."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from api.deps import CurrentOwner, DatabaseDep, ServingDep
from api.http.problems import responses
from api.jobs.images import service
from api.threads import REQUESTS, UPLOADS
from clipcite.wire.jobs import JobImageList

router = APIRouter(prefix="/jobs", tags=["jobs"])
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}
MAX_POSITION = 2**31 - 1


@router.get("/{job_id}/images", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_job_images(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> JobImageList:
    """List the images of a job in the order of the upload, with their labels."""
    return service.list_job_images(database, owner, job_id)


@router.get(
    "/{job_id}/images/{position}",
    response_class=Response,
    responses={**JPEG, **responses(401, 404, 422, 503)},
)
@UPLOADS.runs
def get_job_image(
    *,
    database: DatabaseDep,
    serving: ServingDep,
    owner: CurrentOwner,
    job_id: str,
    position: Annotated[int, Path(ge=0, le=MAX_POSITION, description="Position in the upload.")],
    side: Annotated[
        int,
        Query(ge=16, le=1024, description="Maximum width and height in pixels. Images are never enlarged."),
    ] = 320,
) -> Response:
    """Return a thumbnail of an image of the job, as JPEG."""
    return service.answer_job_image(database, serving, owner, job_id, position, side)
