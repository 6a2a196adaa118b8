"""`POST /thumbnail`: an image that browsers can't show, such as HEIC, as a small JPEG for the page."""

from fastapi import APIRouter, Request, Response

from api.deps import ServingDep
from api.jobs.images import HEADERS, jpeg_of
from api.threads import UPLOADS

SIDE = 512
"""Maximum width and height (pixels)."""
router = APIRouter(include_in_schema=False)


@router.post("/thumbnail")
async def thumbnail(request: Request, serving: ServingDep) -> Response:
    """Return the image of the body as JPEG. Nothing is stored."""
    jpeg = await UPLOADS.run(jpeg_of, serving, await request.body(), SIDE)
    return Response(jpeg, media_type="image/jpeg", headers=HEADERS)
