"""Route of POST /classify."""

from fastapi import APIRouter, Request, Response

from api.classify.schemas import REQUEST_BODY, Classification, Comparison
from api.classify.service import answer_classify
from api.forms import MemoryFormRoute
from api.problems import responses

router = APIRouter(tags=["classify"], route_class=MemoryFormRoute)


@router.post(
    "/classify",
    response_model=Classification | Comparison,
    responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=REQUEST_BODY,
)
async def classify(request: Request) -> Response:
    """Rank class names for each image. Any class names are allowed, trained or new.

    With `models` the response has one answer per model, in `comparison`.
    """
    return Response(await answer_classify(request), media_type="application/json")
