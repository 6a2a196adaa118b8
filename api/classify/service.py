"""Handling of POST /classify, from the body to the response."""

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

from fastapi import Request
from pydantic_core import to_json

from api.classify.request import ParsedBody, received, with_class_names
from api.classify.response import to_response
from api.http.problems import InvalidRequest
from core.admission import Take
from core.clip.config import round_alpha
from core.serving.service import Serving, Subject, look_up
from core.serving.types import ClassifyRequest, ClassifyResult, NoReadableImage
from core.settings import Settings
from core.store.db.session import Database
from core.store.errors import ModelNotFound

Receive = Callable[[Request, Settings], AbstractAsyncContextManager[Callable[[], ParsedBody]]]
Result = TypeVar("Result")


async def answer_classify(request: Request, receive: Receive = received) -> bytes:
    """Classify the images of a request. Return the response as JSON.

    Args:
        receive: receives the body, and yields the function that parses it.

    Raises:
        InvalidRequest: the body is invalid, or none of its images can be read.
        ServerBusy: other requests hold the room.
        ClipCiteError: a model is missing or can't be loaded.
    """
    # Read from the state, because FastAPI's dependencies cost time on every request.
    state = request.app.state
    state.serving.images.check()  # before the body is read, so that load shedding is cheap
    async with receive(request, state.settings) as parse:
        return await run_admitted(request, partial(_answer, parse))


async def run_admitted(request: Request, work: Callable[[Serving, Database, str, Take], Result]) -> Result:
    """Run the blocking part of a request, which counts as an image, in a thread.

    Raises:
        ServerBusy: other requests hold the room.
    """
    state, owner = request.app.state, request.state.caller.owner
    serving: Serving = state.serving
    with serving.images.hold(owner, 1) as take:
        # A separate executor, so that waiting here takes no threads from other routes.
        loop = asyncio.get_running_loop()
        run = contextvars.copy_context().run  # with the request's trace and its id for the log
        return await loop.run_in_executor(serving.requests, run, work, serving, state.database, owner, take)


def _answer(
    parse: Callable[[], ParsedBody], serving: Serving, database: Database, owner: str, take: Take
) -> bytes:
    """Parse and classify in one thread. Images count once per model, one of them already."""
    body = parse()
    encoded = len(body.images) if isinstance(body.images, list) else 1  # a collection is encoded already
    take(encoded * len(body.options.references) - 1)
    return _classify(body, serving, database, owner, take)


def _classify(body: ParsedBody, serving: Serving, database: Database, owner: str, take: Take) -> bytes:
    """Classify and encode as JSON. A thousand classes for many images would block the event loop."""
    try:
        subjects, named, answers = _compare(serving, database, body, owner, take)
    except ModelNotFound:  # deleted meanwhile; a name or an alias may now point to another model
        subjects, named, answers = _compare(serving, database, body, owner, take)
    fields = [
        to_response(answer, reference, subject, body)
        for answer, reference, subject in zip(answers, body.options.references, subjects, strict=True)
    ]
    warnings = list(named.warnings)
    if any(answer.preview for answer in answers) and body.options.alpha:
        detail = "An instant preview has no alpha. The value was ignored."
        warnings.append({"code": "alpha_unused", "detail": detail})
    missing = max(answer.preview_lacks for answer in answers)
    if missing:
        detail = (
            f"The preview is still processing {missing} of the job's images. Send the request again for a "
            "preview of all images."
        )
        warnings.append({"code": "preview_unfinished", "detail": detail})
    if body.options.models:
        return to_json({"comparison": fields, "warnings": warnings})
    return to_json({**fields[0], **answers[0].collection, "warnings": warnings})


def _compare(
    serving: Serving, database: Database, body: ParsedBody, owner: str, take: Take
) -> tuple[list[Subject], ParsedBody, list[ClassifyResult]]:
    """Return the models of the request, its classes, and the answers."""
    options = body.options
    # Resolved once, so that a promotion in between can't mix two models.
    subjects = look_up(database, options.references, owner=owner)
    body = with_class_names(body, subjects[0])
    request = ClassifyRequest(
        body.class_names or (),
        alpha=None if options.alpha is None else round_alpha(options.alpha),
        templates=None if options.templates is None else tuple(options.templates),
        new_class_balance=options.new_class_balance,
        top_k=options.top_k,
        coverage=options.coverage,
        reject=options.reject,
        features=options.features,
    )
    try:
        results = serving.compare(body.images, request, models=subjects, owner=owner, take=take)
        return subjects, body, results
    except NoReadableImage as error:
        items = [
            {"file": file or f"images[{i}]", "code": problem.code, "detail": problem.detail}
            for i, (file, problem) in enumerate(zip(body.files, error.problems, strict=True))
        ]
        raise InvalidRequest(error.detail, items, code=error.code) from error
