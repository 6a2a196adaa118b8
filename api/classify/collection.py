"""Route of POST /classify/collection, and the parsing of its body."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from api.classify.request import ParsedBody, checked
from api.classify.service import answer_classify
from api.http.problems import InvalidRequest, parsed_json, responses
from clipcite.wire.classify import CollectionJson, Options, ScoreOptions
from clipcite.wire.predictions import CollectionAnswer
from core.serving.collection import Features
from core.settings import Settings

NOT_FEATURES = "Not base64 of finite float16 numbers, as many as in the first element."
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
router = APIRouter(tags=["classify"])


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


@asynccontextmanager
async def received_collection(
    request: Request, settings: Settings
) -> AsyncIterator[Callable[[], ParsedBody]]:
    """Receive the features of a collection; see `received`."""
    body = await request.body()
    yield lambda: _from_collection(body)


def _from_collection(body: bytes) -> ParsedBody:
    """Return the request of a CollectionJson. Raise InvalidRequest that lists every invalid element."""
    asked = parsed_json(CollectionJson, body)
    rows: list[NDArray[np.float16]] = []
    errors = []
    for index, text in enumerate(asked.features):
        try:
            rows.append(np.frombuffer(base64.b64decode(text, validate=True), "<f2"))
            if len(rows[-1]) != len(rows[0]) or not np.isfinite(rows[-1]).all():
                raise ValueError
        except ValueError:
            errors.append({"pointer": f"/features/{index}", "detail": NOT_FEATURES})
    if errors:
        raise InvalidRequest(
            f"{len(errors)} of {len(asked.features)} features are not base64 of equally many finite float16 "
            "numbers. Send `features` as POST /classify returned them, all for one model and alpha.",
            errors,
            code="invalid_features",
        )
    wrong = [i for i, position in enumerate(asked.labelled) if not 0 <= position < len(rows)]
    if wrong:
        raise InvalidRequest(
            f"`labelled` has a position that is none of the {len(rows)} features. They count from 0.",
            [{"pointer": f"/labelled/{i}", "detail": "No such position."} for i in wrong],
        )
    options = Options.model_construct(**{name: getattr(asked, name) for name in ScoreOptions.model_fields})
    features = Features(np.stack(rows), asked.suggest, frozenset(asked.labelled))
    return checked(options, features, [None] * len(rows))
