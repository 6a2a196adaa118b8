"""POST /classify, from the body to the response."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from api.classify.request import Asked, Parse, received
from api.classify.scoring import Images, classify
from api.http.problems import InvalidRequest, responses
from api.serving.service import Serving, Subject, look_up
from api.serving.types import NoReadableImage
from clipcite.types.classify import Classification, ClassName, Options
from clipcite.types.problems import Notice
from core.admission import Take
from core.store.db.session import Database
from core.store.errors import ModelNotFound

MAX_PROMPTS = 20_000
"""Maximum number of prompts of a request, which bounds its memory. `Texts` bounds its time."""
MAX_PREDICTIONS = 100_000
"""Maximum number of predictions in a response, over all images."""
T = TypeVar("T")
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGklEQVR42mPcEqXBQApgYiARjGoY1TB0NAAA570BVmJm"
    "5+oAAAAASUVORK5CYII="
)
"""An image of 16 × 16 pixels, so that the example in /docs works unchanged."""
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            # api.http.openapi adds the schemas.
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
    response_model=Classification,
    responses=responses(400, 401, 404, 408, 409, 413, 422, 503, 507),
    openapi_extra=REQUEST_BODY,
    name="classify",
)
async def classify_images(request: Request) -> Response:
    """Rank class names for each image. Any class names are allowed, trained or new.

    The body may also be a single image, such as `image/jpeg`, with the other fields as query parameters.
    """
    return Response(await answer_classify(request), media_type="application/json")


async def answer_classify(request: Request) -> bytes:
    """Classify the images of a request. Return the response as JSON.

    Raises:
        InvalidRequest: the body is invalid, or none of its images can be read.
        ServerBusy: other requests use the budget.
        ExpectedError: a model is missing or can't be loaded.
    """
    # Read the state directly, because FastAPI's dependencies cost time on every request.
    state = request.app.state
    state.serving.images.check()  # before the body is read, so that load shedding is cheap
    async with received(request, state.settings) as parse:
        return await run_admitted(request, partial(_answer, parse))


async def run_admitted(request: Request, work: Callable[[Serving, Database, str, Take], T]) -> T:
    """Run the blocking part of a request, whose body was read, in a thread. It counts as one image.

    Raises:
        ServerBusy: other requests use the budget.
        ClientDisconnect: the client has gone, so the work was given up.
    """
    state, owner = request.app.state, request.state.caller.owner
    serving: Serving = state.serving
    gone = threading.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue
        gone.set()

    with serving.images.hold(owner, 1) as take:

        def take_unless_gone(more: int) -> None:
            if gone.is_set():
                raise ClientDisconnect
            take(more)

        watching = asyncio.create_task(watch())
        # A separate executor, so that waiting here does not use the threads of other routes.
        loop = asyncio.get_running_loop()
        run = contextvars.copy_context().run  # the context has the request's id
        try:
            return await loop.run_in_executor(
                serving.requests, run, work, serving, state.database, owner, take_unless_gone
            )
        finally:
            watching.cancel()


def _answer(parse: Parse, serving: Serving, database: Database, owner: str, take: Take) -> bytes:
    """Parse, classify and encode as JSON, in a thread: large requests would block the event loop."""
    asked = parse()
    take(len(asked.images) - 1)
    try:
        return _classified(asked, serving, database, owner, take)
    except ModelNotFound:  # deleted meanwhile; a name or an alias may now point to another model
        return _classified(asked, serving, database, owner, take)


def _classified(asked: Asked, serving: Serving, database: Database, owner: str, take: Take) -> bytes:
    model = look_up(database, asked.options.model, owner=owner)
    options = _with_class_names(asked.options, model)
    _check_size(options, len(asked.images))
    try:
        result = classify(serving, Images(asked.images, serving, asked.files), options, model, take=take)
    except NoReadableImage as error:
        items = [
            {"file": file or f"images[{i}]", "code": problem.code, "detail": problem.detail}
            for i, (file, problem) in enumerate(zip(asked.files, error.problems, strict=True))
        ]
        raise InvalidRequest(error.detail, items, code=error.code) from error
    result.warnings += [Notice(**warning) for warning in asked.warnings]
    return result.model_dump_json().encode()


def _with_class_names(options: Options, model: Subject) -> Options:
    """Return the options. Without class names they get the classes of the model."""
    if options.class_names is not None:
        return options
    if isinstance(model, str):
        detail = "The stock model has no classes of its own. Send `class_names`, or a trained `model`."
        raise InvalidRequest(detail, at="/class_names")
    return options.model_copy(update={"class_names": [*map(ClassName, model.classes)]})


def _check_size(options: Options, images: int) -> None:
    """Raise InvalidRequest if there are too many prompts or predictions, before any name is processed."""
    names = options.class_names or []
    count = sum(len(each.prompts or options.templates or [""]) for each in names)
    if count > MAX_PROMPTS:
        raise InvalidRequest(
            f"The class names and templates give {count:,} prompts, and the maximum is {MAX_PROMPTS:,}. Send "
            "fewer class names or templates.",
            at="/templates",
        )
    count = images * min(len(names), options.top_k or len(names))
    if count > MAX_PREDICTIONS:
        raise InvalidRequest(
            f"The response would have {count:,} predictions, and the maximum is {MAX_PREDICTIONS:,}. Send "
            f"`top_k` of at most {MAX_PREDICTIONS // images:,}, or fewer images or class names.",
            at="/top_k",
        )
