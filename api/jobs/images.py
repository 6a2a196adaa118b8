"""Routes of /jobs/{id}/images and POST /thumbnail: the images of a job, as a list and as thumbnails."""

from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api.deps import CurrentOwner, DatabaseDep, ServingDep
from api.http.problems import responses
from api.serving.service import Serving
from api.threads import REQUESTS, UPLOADS
from clipcite.types.jobs import JobImage, JobImageList
from clipcite.types.problems import ProblemAction
from core.clip.data.header import ImageLimits
from core.store.errors import NotFound
from core.store.jobs import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"])
page_router = APIRouter(include_in_schema=False)
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}
MAX_POSITION = 2**31 - 1
PAGE_SIDE = 512
"""Maximum width and height of `POST /thumbnail` (pixels)."""
PRIVATE = {"Cache-Control": "private, no-store"}


@router.get("/{job_id}/images", responses=responses(401, 404, 422, 503))
@REQUESTS.runs
def list_job_images(database: DatabaseDep, owner: CurrentOwner, job_id: str) -> JobImageList:
    """List the images of a job in the order of the upload, with their labels."""
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        rows = jobs.images(session, job.id)
    return JobImageList(data=[JobImage.model_validate(row, from_attributes=True) for row in rows])


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
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        row = jobs.image(session, job.id, position)
    if row is None:
        raise NotFound(
            "image_not_found",
            f"The job {job_id!r} has no image {position}. ",
            ProblemAction.of("GET /jobs/{job_id}/images", job_id=job_id),
            " lists its images.",
        )
    return Response(jpeg_thumbnail(serving, row.blob_key, side), media_type="image/jpeg", headers=PRIVATE)


@page_router.post("/thumbnail")
async def thumbnail(request: Request, serving: ServingDep) -> Response:
    """Return an image that browsers can't show, such as HEIC, as a small JPEG. Nothing is stored."""
    jpeg = await UPLOADS.run(jpeg_of, serving, await request.body(), PAGE_SIDE)
    return Response(jpeg, media_type="image/jpeg", headers=PRIVATE)


def jpeg_thumbnail(serving: Serving, key: str, side: int) -> bytes:
    """Return the stored image as JPEG of at most `side` × `side` pixels.

    Raises:
        BlobNotFound: the file is lost.
        BadImage: the file can't be decoded.
    """
    return jpeg_of(serving, serving.blobs.get(key), side)


def jpeg_of(serving: Serving, content: bytes, side: int) -> bytes:
    """Return the image file as JPEG of at most `side` × `side` pixels. Raise BadImage."""
    settings = serving.settings
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    image = serving.decoding.open_image(content, limits, shortest_side=side)
    image.thumbnail((side, side))
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()
