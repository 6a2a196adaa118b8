"""Route of POST /classify."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.classify.service import answer_classify
from api.http.problems import responses
from clipcite.wire.predictions import Classification, Comparison

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGklEQVR42mPcEqXBQApgYiARjGoY1TB0NAAA570BVmJm"
    "5+oAAAAASUVORK5CYII="
)
"""An image of 16 × 16 pixels, with which the example in /docs works as it is."""
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            # The schemas themselves are added by api.http.openapi.
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/ClassifyForm"}},
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ClassifyJson"},
                "example": {
                    "model": "stock",
                    "class_names": ["red fox", {"name": "MT_Fray", "prompts": ["a frayed metal surface"]}],
                    "images": [{"base64": PICTURE}],
                    "top_k": 3,
                },
            },
        },
    },
}
router = APIRouter(tags=["classify"])


@router.post(
    "/classify",
    response_model=Classification | Comparison,
    responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=REQUEST_BODY,
)
async def classify(request: Request) -> Response:
    """Rank class names for each image. Any class names are allowed, trained or new.

    The body may also be one image alone, such as `image/jpeg`, with the other fields as query parameters.

    With `models` the response has one answer per model, in `comparison`.
    """
    return Response(await answer_classify(request), media_type="application/json")
