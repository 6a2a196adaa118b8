"""Operations of the routes of a job's images."""

from fastapi import Response

from api.jobs.images.thumbnail import jpeg_thumbnail
from clipcite.wire.jobs import JobImage, JobImageList
from core.serving.service import Serving
from core.store.db.session import Database
from core.store.errors import ImageNotFound
from core.store.jobs import jobs

HEADERS = {"Cache-Control": "private, no-store"}


def list_job_images(database: Database, owner: str, job_id: str) -> JobImageList:
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        rows = jobs.images(session, job.id)
    return JobImageList(data=[JobImage.model_validate(row, from_attributes=True) for row in rows])


def answer_job_image(
    database: Database, serving: Serving, owner: str, job_id: str, position: int, side: int
) -> Response:
    """Return the thumbnail.

    Raises:
        JobNotFound: the owner has no such job.
        ImageNotFound: the job has no image at this position.
        BlobNotFound: the stored file is lost.
        BadImage: the stored file can't be decoded.
    """
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
        row = jobs.image(session, job.id, position)
    if row is None:
        raise ImageNotFound(job_id, position)
    return Response(
        jpeg_thumbnail(serving, row.blob_key, owner, side), media_type="image/jpeg", headers=HEADERS
    )
