"""Route of POST /classify."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.classify.request import received_collection
from api.classify.service import answer_classify
from api.http.forms import MemoryFormRoute
from api.http.problems import responses
from clipcite.wire.predictions import Classification, CollectionAnswer, Comparison

DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQV"
    "R42mM8EaXBwMDAxMDAwMDAAAAQQgFOeLLOJwAAAABJRU5ErkJggg=="
)
"""An image of 2 × 2 pixels, which makes the example in /docs complete."""
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
                    "images": [{"base64": DOT}],
                    "top_k": 3,
                },
            },
        },
    },
}
COLLECTION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/CollectionJson"},
                "example": {"model": "animals@prod", "features": ["AAC4OwAAuDs="], "top_k": 1},
            }
        },
    },
}
router = APIRouter(tags=["classify"], route_class=MemoryFormRoute)


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


@router.post(
    "/classify/collection",
    response_model=CollectionAnswer,
    responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=COLLECTION_BODY,
)
async def classify_collection(request: Request) -> Response:
    """Rank class names for the images of a collection, from the `features` that `POST /classify` returned.

    If the model was trained on all class names, the surer images join the training images for this answer
    (`method` is `self_training`). Otherwise each image is classified alone, and `reason` says why. Nothing
    is stored.
    """
    return Response(await answer_classify(request, received_collection), media_type="application/json")
