"""A request of POST /classify, from the body to the answer."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from fastapi import Request
from pydantic_core import to_json

from api.classify.request import ParsedBody, parse_request
from api.classify.response import to_response
from api.problems import InvalidRequest
from core.serving.service import Serving, Subject, look_up
from core.serving.types import ClassifyRequest, ClassifyResult, NoReadableImage
from core.store.db.session import Database
from core.store.errors import ModelNotFound


async def answer_classify(request: Request) -> bytes:
    """The answer as JSON.

    Raises:
        InvalidRequest: the body is refused, or no image of it can be read.
        ClipCiteError: a model is missing, or more requests wait than the limit.
    """
    # Not asked for as dependencies, each of which FastAPI takes through some steps at every request.
    state, owner = request.app.state, request.state.caller.owner
    serving: Serving = state.serving
    database: Database = state.database
    wanted = await parse_request(request, state.settings, serving)
    costs = Counter[tuple[str, str]]()
    for reference in wanted.options.references:
        costs[owner, reference] += len(wanted.images)
    with serving.gate.acquire(costs):
        # In threads of their own: however long these wait, other routes have theirs.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(serving.requests, _classify, wanted, serving, database, owner)


def _classify(wanted: ParsedBody, serving: Serving, database: Database, owner: str) -> bytes:
    """The answer as JSON: a thousand names for each of many images are too much for the event loop."""
    references = wanted.options.references
    # Once for the whole request: what is promoted from here on is for the next one.
    subjects = look_up(database, references, owner=owner)
    try:
        answers = _compare(serving, wanted, subjects, owner)
    except ModelNotFound:  # deleted since; a name or an alias may mean another one by now
        subjects = look_up(database, references, owner=owner)
        answers = _compare(serving, wanted, subjects, owner)
    fields = [
        to_response(
            answer,
            reference,
            subject,
            wanted.files,
            sets=wanted.options.coverage is not None,
            rejects=wanted.options.reject,
        )
        for answer, reference, subject in zip(answers, references, subjects, strict=True)
    ]
    warnings = list(wanted.warnings)
    if any(answer.preview for answer in answers) and wanted.options.alpha:
        detail = "A preview has no alpha: what was given is not used."
        warnings.append({"code": "alpha_unused", "detail": detail})
    lacks = max(answer.preview_lacks for answer in answers)
    if lacks:
        detail = f"{lacks} of the job's images are still being looked at; a later answer knows them too."
        warnings.append({"code": "preview_unfinished", "detail": detail})
    if wanted.options.models:
        return to_json({"comparison": fields, "warnings": warnings})
    return to_json({**fields[0], "warnings": warnings})


def _compare(
    serving: Serving, wanted: ParsedBody, subjects: Sequence[Subject], owner: str
) -> list[ClassifyResult]:
    options = wanted.options
    question = ClassifyRequest(
        wanted.class_names,
        alpha=options.alpha,
        templates=None if options.templates is None else tuple(options.templates),
        new_class_balance=options.new_class_balance,
        top_k=options.top_k,
        coverage=options.coverage,
        reject=options.reject,
    )
    try:
        return serving.compare(wanted.images, question, models=subjects, owner=owner)
    except NoReadableImage as error:
        items = [
            {"file": file or f"images[{i}]", "code": problem.code, "detail": problem.detail}
            for i, (file, problem) in enumerate(zip(wanted.files, error.problems, strict=True))
        ]
        raise InvalidRequest(error.detail, items, code=error.code) from error
