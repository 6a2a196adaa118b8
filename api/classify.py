"""POST /classify: pictures and any class names in, ranked class names out."""

import asyncio
import base64
import binascii
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from api.adapt.intake import display_name
from api.answers import ClassifyOut, ComparisonOut, fields_of
from api.class_names import ClassIn, class_names
from api.deps import TheDatabase, TheOwner, TheServing, TheSettings
from api.errors import InvalidRequest, invalid_model, json_or_invalid, responses
from core.clip.balance import NEW_NAMES_BALANCE
from core.clip.errors import InvalidConfig
from core.clip.prompts import check_templates
from core.serving.answer import Answer, ClassName, NoReadablePicture, Question
from core.serving.references import Subject, is_stock, look_up
from core.serving.service import Serving
from core.settings import Settings
from core.store.errors import ModelNotFound
from core.store.names import STOCK
from core.store.session import Database

router = APIRouter(tags=["classify"])
MAX_FORM_FIELDS = 20_000  # far above the limit on class names, whose error says more
MAX_SENTENCES = 20_000
MOST_MODELS = 5
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQV"
    "R42mM8EaXBwMDAxMDAwMDAAAAQQgFOeLLOJwAAAABJRU5ErkJggg=="
)
"""A picture of 2 x 2 pixels, for the example: what /docs shows can be sent as it is."""
RoutingKey = Annotated[
    str | None,
    Header(
        max_length=600,
        description="The same as `model` (or one of `models`), for a load balancer before several of these: "
        "it sees headers, not bodies, and sends all requests of a model to where that is warm. Not needed "
        "otherwise.",
    ),
]


class PictureIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    base64: str
    name: str | None = Field(None, description="Comes back as `file`.")


class Options(BaseModel):
    """What a form and a JSON body have in common."""

    model_config = ConfigDict(extra="forbid")
    class_names: list[str | ClassIn] = Field(description="Any names, trained or not.")
    model: str = Field(
        STOCK,
        description="A model's id, its `name` (the latest version), `name@version`, `name@alias`, `stock`, "
        "or `stock:<backbone>`. Or a job's id: its model, and as long as it has none a preview, which its "
        "pictures make without training.",
        max_length=600,
    )
    models: list[Annotated[str, Field(max_length=600)]] | None = Field(
        None,
        min_length=1,
        max_length=MOST_MODELS,
        description="Instead of `model`: several, to compare. `comparison` has each one's answer, in order.",
    )
    alpha: float | None = Field(None, ge=0, le=1, description="In steps of 0.01; default the model's.")
    templates: list[str] | None = Field(None, description="Default the model's.")
    new_names_balance: float = Field(
        NEW_NAMES_BALANCE,
        ge=0,
        le=1,
        description=(
            "Some names look a little like every picture, and fine-tuning draws pictures of new classes to "
            "the trained names. How much of that, as the model's own pictures tell it, is taken off each "
            "name; 0: nothing."
        ),
    )
    top_k: int | None = Field(None, ge=1, description="Only the best so many names; default all.")

    coverage: float | None = Field(
        None,
        ge=0.5,
        le=0.99,
        description="Adds to each picture the `names` among which the true one is so often, on pictures like "
        "those that the model was measured on. For a model asked for exactly its trained names.",
    )
    reject: bool = Field(
        False,
        description="Adds to each picture whether it is `rejected`: less like any of the trained classes, "
        "their names and their pictures, than 19 in 20 of their own pictures are. For a model asked for "
        "exactly its trained names.",
    )


class ClassifyJson(Options):
    images: list[PictureIn]


class ClassifyForm(Options):
    """`multipart/form-data`. `class_names`, `templates` and `models` are repeated, or one JSON array."""

    images: list[Annotated[str, Field(json_schema_extra={"format": "binary"})]]


@dataclass(frozen=True)
class Wanted:
    """A request, checked."""

    pictures: list[bytes]
    files: list[str | None]
    class_names: tuple[ClassName, ...]
    options: Options
    warnings: list[dict[str, str]]


async def wanted(
    request: Request, settings: TheSettings, serving: TheServing, x_clipcite_model: RoutingKey = None
) -> Wanted:
    """Read and check the body, a form or JSON. Everything that is wrong is named at once where it can."""
    serving.gate.check()  # a refusal costs nothing but this
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    pictures: list[bytes] = []
    files: list[str | None] = []
    options: Options
    if kind == "application/json":
        # Megabytes of JSON and base64 are not parsed where all other requests would wait for it.
        options, pictures, files = await run_in_threadpool(_read_json, await request.body(), settings)
    elif kind == "multipart/form-data":
        limits = {"max_files": settings.max_pictures, "max_fields": MAX_FORM_FIELDS}
        async with request.form(**limits) as form:
            options = _options_of(form)
            uploads = [upload for upload in form.getlist("images") if isinstance(upload, UploadFile)]
            if len(uploads) != len(form.getlist("images")):
                raise InvalidRequest(
                    "images must be files.", [{"pointer": "/images", "detail": "Not a file."}]
                )
            _check_count(len(uploads), settings)
            for upload in uploads:
                pictures.append(await upload.read(settings.max_picture_bytes + 1))
                files.append(display_name(upload.filename) if upload.filename else None)
    else:
        raise InvalidRequest(
            "Send multipart/form-data with `images`, or application/json with base64 pictures."
        )
    if options.models and "model" in options.model_fields_set:
        detail = "Send either `model` or `models`: put all that shall be compared into `models`."
        raise InvalidRequest(detail, [{"pointer": "/models", "detail": detail}])
    references = options.models or [options.model]
    if x_clipcite_model is not None and x_clipcite_model not in references:
        detail = (
            f"The header X-Clipcite-Model must be the same as the field model, which is {references[0]!r}; "
            "send both or leave the header out."
        )
        raise InvalidRequest(detail, [{"pointer": "/model", "detail": detail}], code="routing_key_mismatch")
    names, warnings = class_names(options.class_names, settings.max_class_names)
    _check_options(options, names)
    if options.alpha and any(map(is_stock, references)):
        detail = "The stock network has no alpha: what was given is not used."
        warnings.append({"code": "alpha_unused", "detail": detail})
    if options.alpha is not None:
        options.alpha = round(options.alpha, 2)  # one of 101, each of which may be kept warm
    return Wanted(pictures, files, names, options, warnings)


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            # The schemas themselves are put into the document in api.app.
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/ClassifyForm"}},
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ClassifyJson"},
                "example": {
                    "model": "stock",
                    "class_names": ["red fox", {"name": "MT_Fray", "texts": ["a frayed metal surface"]}],
                    "images": [{"base64": DOT}],
                    "top_k": 3,
                },
            },
        },
    }
}


@router.post(
    "/classify",
    response_model=ClassifyOut | ComparisonOut,
    responses=responses(400, 401, 404, 408, 413, 422, 503, 507),
    openapi_extra=BODY,
)
async def classify(
    wanted: Annotated[Wanted, Depends(wanted)], serving: TheServing, database: TheDatabase, owner: TheOwner
) -> Response:
    """Rank class names for each picture. Any names may be asked for, trained or not.

    With `models`, several models answer side by side, in `comparison`.
    """
    references = wanted.options.models or [wanted.options.model]
    costs = Counter({(owner, reference): 0 for reference in references})
    for reference in references:
        costs[owner, reference] += len(wanted.pictures)
    with serving.gate.inside(costs):
        # In threads of their own: however long these wait, other routes have theirs.
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(serving.requests, _classify, wanted, serving, database, owner)
    return Response(answer, media_type="application/json")


def _classify(wanted: Wanted, serving: Serving, database: Database, owner: str) -> bytes:
    """The answer as JSON: a thousand names for each of many pictures are too much for the event loop."""
    references = wanted.options.models or [wanted.options.model]
    # Once for the whole request: what is promoted from here on is for the next one.
    subjects = look_up(database, references, owner=owner)
    try:
        answers = _compare(serving, wanted, subjects)
    except ModelNotFound:  # deleted since; a name or an alias may mean another one by now
        subjects = look_up(database, references, owner=owner)
        answers = _compare(serving, wanted, subjects)
    fields = [
        fields_of(
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
        detail = f"{lacks} of the job's pictures are still being looked at; a later answer knows them too."
        warnings.append({"code": "preview_unfinished", "detail": detail})
    if wanted.options.models:
        return to_json({"comparison": fields, "warnings": warnings})
    return to_json({**fields[0], "warnings": warnings})


def _compare(serving: Serving, wanted: Wanted, subjects: Sequence[Subject]) -> list[Answer]:
    options = wanted.options
    question = Question(
        wanted.class_names,
        alpha=options.alpha,
        templates=None if options.templates is None else tuple(options.templates),
        new_names_balance=options.new_names_balance,
        top_k=options.top_k,
        coverage=options.coverage,
        reject=options.reject,
    )
    try:
        return serving.compare(wanted.pictures, question, models=subjects)
    except NoReadablePicture as error:
        items = [
            {"file": file or f"images[{i}]", "code": problem.code, "detail": problem.detail}
            for i, (file, problem) in enumerate(zip(wanted.files, error.problems, strict=True))
        ]
        raise InvalidRequest(error.detail, items, code=error.code) from error


def _read_json(body: bytes, settings: Settings) -> tuple[Options, list[bytes], list[str | None]]:
    try:
        options = ClassifyJson.model_validate_json(body)
    except ValidationError as error:
        raise invalid_model(error, "") from error
    _check_count(len(options.images), settings)
    pictures = _decode_base64([picture.base64 for picture in options.images])
    return options, pictures, [display_name(p.name) if p.name else None for p in options.images]


def _options_of(form: FormData) -> Options:
    fields: dict[str, Any] = {}
    for name in dict.fromkeys(form.keys()):
        values = form.getlist(name)
        if name == "images":
            continue
        if any(isinstance(value, UploadFile) for value in values):
            raise InvalidRequest(
                f"{name[:60]} must be text.", [{"pointer": f"/{name[:60]}", "detail": "A file."}]
            )
        if name in {"class_names", "templates", "models"}:
            only = str(values[0]).strip() if len(values) == 1 else ""
            fields[name] = json_or_invalid(only, f"/{name}") if only.startswith("[") else values
        else:
            fields[name] = values[0] if len(values) == 1 else values
    try:
        return Options.model_validate(fields)
    except ValidationError as error:
        raise invalid_model(error, "") from error


def _check_count(pictures: int, settings: Settings) -> None:
    if not 1 <= pictures <= settings.max_classify_pictures:
        detail = f"Send 1 to {settings.max_classify_pictures} pictures, not {pictures}."
        raise InvalidRequest(detail, [{"pointer": "/images", "detail": detail}])


def _decode_base64(texts: list[str]) -> list[bytes]:
    """Plain base64, or a data: URL. Raises InvalidRequest that names every bad one."""
    decoded, errors = [], []
    for index, text in enumerate(texts):
        try:
            payload = text.partition(",")[2] if text.startswith("data:") else text
            lines = payload.split()  # `base64 picture.jpg` wraps its lines
            decoded.append(base64.b64decode("".join(lines), validate=True))
        except (binascii.Error, ValueError):
            errors.append({"pointer": f"/images/{index}/base64", "detail": "Not valid base64."})
    if errors:
        count = "A picture is" if len(errors) == 1 else f"{len(errors)} pictures are"
        raise InvalidRequest(f"{count} not valid base64; see errors.", errors)
    return decoded


def _check_options(options: Options, names: Sequence[ClassName]) -> None:
    sentences = sum(len(name.texts or options.templates or [""]) for name in names)
    if sentences > MAX_SENTENCES:
        detail = f"These names and templates make {sentences:,} sentences; at most {MAX_SENTENCES:,}."
        raise InvalidRequest(detail, [{"pointer": "/templates", "detail": detail}])
    if options.alpha is not None and not math.isclose(100 * options.alpha, round(100 * options.alpha)):
        detail = f"alpha goes in steps of 0.01, so {options.alpha} is not possible."
        raise InvalidRequest(detail, [{"pointer": "/alpha", "detail": detail}])
    if options.templates is not None:
        try:
            check_templates(options.templates)
        except InvalidConfig as error:
            raise InvalidRequest(error.detail, [{"pointer": "/templates", "detail": error.detail}]) from error
