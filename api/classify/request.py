"""Parsing and validation of the body of POST /classify."""

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, QueryParams, UploadFile

from api.classify.class_names import class_names
from api.http.forms import check_fields, display_name, read_form
from api.http.problems import InvalidRequest, invalid_model, json_or_invalid, parsed_json
from clipcite.wire.base import MAX_CLASSIFY_IMAGES
from clipcite.wire.classify import ClassifyJson, ClassIn, Options
from core.clip.errors import InvalidConfig
from core.clip.prompts import check_templates
from core.serving.collection import Features
from core.serving.service import Subject, is_stock
from core.serving.types import ClassName
from core.settings import Settings

MAX_FORM_FIELDS = 20_000  # far above the limit on class names, whose error is more helpful
MAX_PROMPTS = 20_000
MAX_PREDICTIONS = 100_000
"""Maximum number of predictions of all images and models, each with its class name."""
LISTS = ("class_names", "templates", "models")
"""Fields that may be repeated, or have a JSON list."""
WHITESPACE = b" \t\n\r\v\f"
Images = list[bytes] | Features
"""Files, or the features of a collection."""


@dataclass(frozen=True)
class ParsedBody:
    """A validated request."""

    images: Images
    files: list[str | None]
    class_names: tuple[ClassName, ...] | None
    """None stands for the classes of the model."""
    options: Options
    warnings: list[dict[str, str]]


@asynccontextmanager
async def received(request: Request, settings: Settings) -> AsyncIterator[Callable[[], ParsedBody]]:
    """Receive the body: a form, JSON or an image. Yield the function that parses it, for a thread.

    The function raises:
        InvalidRequest: the body breaks the contract; as many errors as possible are listed.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        body = await request.body()
        yield lambda: from_json(body, settings)
    elif content_type.startswith("image/") or content_type == "application/octet-stream":
        image = await request.body()
        yield lambda: checked(_options_of(request.query_params), [image], [None])
    elif content_type == "multipart/form-data":
        form = await read_form(
            request, in_memory=True, max_files=settings.max_images, max_fields=MAX_FORM_FIELDS
        )
        try:
            yield lambda: _from_form(form, settings)
        finally:
            await form.close()
    else:
        raise InvalidRequest(
            "Send multipart/form-data with `images`, application/json with base64 images, or one image as "
            "image/jpeg with the other fields as query parameters."
        )


def from_json(body: bytes, settings: Settings) -> ParsedBody:
    """Return the request of a ClassifyJson. Raise InvalidRequest."""
    options = parsed_json(ClassifyJson, body)
    _check_count(len(options.images))
    images = _decode_base64([image.base64 for image in options.images], settings.max_image_bytes)
    files = [display_name(p.name) if p.name else None for p in options.images]
    return checked(options, images, files)


def _from_form(form: FormData, settings: Settings) -> ParsedBody:
    options = _options_of(form)
    uploads = [upload for upload in form.getlist("images") if isinstance(upload, UploadFile)]
    if len(uploads) != len(form.getlist("images")):
        raise InvalidRequest("images must be files. Send each with a file name.", at="/images")
    _check_count(len(uploads))
    images = []
    for upload in uploads:
        images.append(upload.file.read(settings.max_image_bytes + 1))
        upload.file.close()  # its memory is the image's now
    files = [display_name(upload.filename) if upload.filename else None for upload in uploads]
    parsed = checked(options, images, files)
    names = form.getlist("class_names")
    if len(names) == 1 and "," in str(names[0]) and not str(names[0]).lstrip().startswith("["):
        detail = "The class name has a comma. To send several names, repeat the field or send a JSON list."
        parsed.warnings.append({"code": "comma_in_class_name", "detail": detail})
    return parsed


def checked(options: Options, images: Images, files: list[str | None]) -> ParsedBody:
    """Return the request of these files. Raise InvalidRequest."""
    if options.models and "model" in options.model_fields_set:
        raise InvalidRequest(
            "Send either `model` or `models`. To compare models, put all of them into `models`.", at="/models"
        )
    if options.templates is not None:
        try:
            check_templates(options.templates)
        except InvalidConfig as error:
            raise InvalidRequest(error.detail, at="/templates") from error
    names: tuple[ClassName, ...] | None = None
    warnings: list[dict[str, str]] = []
    if options.class_names is not None:
        names, warnings = _checked_names(options.class_names, len(images), options)
    if options.alpha and any(map(is_stock, options.references)):
        detail = "The stock model has no alpha. The value was ignored."
        warnings.append({"code": "alpha_unused", "detail": detail})
    return ParsedBody(images, files, names, options, warnings)


def with_class_names(body: ParsedBody, subject: Subject) -> ParsedBody:
    """Return the request with the classes of the model, if it names none itself.

    Raises:
        InvalidRequest: the stock model has none, or the model has too many for one request.
    """
    if body.class_names is not None:
        return body
    if isinstance(subject, str):
        detail = "The stock model has no classes of its own. Send `class_names`, or a trained `model`."
        raise InvalidRequest(detail, at="/class_names")
    names, warnings = _checked_names(subject.classes, len(body.images), body.options)
    return replace(body, class_names=names, warnings=[*body.warnings, *warnings])


def _checked_names(
    given: Sequence[str | ClassIn], images: int, options: Options
) -> tuple[tuple[ClassName, ...], list[dict[str, str]]]:
    """Return the names and warnings about them. Raise InvalidRequest if they are too many or invalid."""
    _check_prompt_count(given, options)
    names, warnings = class_names(given)
    _check_predictions(images, len(names), options)
    return names, warnings


def _options_of(form: FormData | QueryParams) -> Options:
    fields: dict[str, Any] = {}
    sent: dict[str, list[Any]] = {}
    for name, value in form.multi_items():
        sent.setdefault(name, []).append(value)
    check_fields(form, ("images", *Options.model_fields), {"images", *LISTS})
    for name, values in sent.items():
        if name == "images":
            continue
        if any(isinstance(value, UploadFile) for value in values):
            raise InvalidRequest(
                f"{name[:60]} must be text. Send it without a file name.", at=f"/{name[:60]}"
            )
        if name in LISTS:
            only = str(values[0]).strip() if len(values) == 1 else ""
            fields[name] = json_or_invalid(only, f"/{name}") if only.startswith("[") else values
        else:
            fields[name] = values[0]
    try:
        return Options.model_validate(fields)
    except ValidationError as error:
        raise invalid_model(error, "") from error


def _check_count(images: int) -> None:
    if not 1 <= images <= MAX_CLASSIFY_IMAGES:
        raise InvalidRequest(f"{images} images were sent. Send 1 to {MAX_CLASSIFY_IMAGES}.", at="/images")


def _decode_base64(texts: list[str], max_bytes: int) -> list[bytes]:
    """Decode plain base64 or `data:` URLs. Raise InvalidRequest that lists every invalid one.

    Of an image above `max_bytes` only the beginning is decoded, which the decoder refuses by its size.
    """
    decoded, errors = [], []
    for index, text in enumerate(texts):
        try:
            payload = (text.partition(",")[2] if text.startswith("data:") else text).encode("ascii")
            # On bytes, since lists of lines take many times the memory. `base64 image.jpg` wraps its lines.
            payload = payload.translate(None, WHITESPACE)
            decoded.append(base64.b64decode(payload[: 4 * (max_bytes // 3 + 1)], validate=True))
        except (binascii.Error, ValueError):
            errors.append({"pointer": f"/images/{index}/base64", "detail": "Not valid base64."})
    if errors:
        count = "An image is" if len(errors) == 1 else f"{len(errors)} images are"
        raise InvalidRequest(f"{count} not valid base64. Encode the files again; see errors.", errors)
    return decoded


def _check_prompt_count(names: Sequence[str | ClassIn], options: Options) -> None:
    """Limit the total number of prompts, before any of them is processed."""
    own = [None if isinstance(name, str) else name.prompts for name in names]
    count = sum(len(prompts or options.templates or [""]) for prompts in own)
    if count > MAX_PROMPTS:
        raise InvalidRequest(
            f"The class names and templates give {count:,} prompts, and the maximum is {MAX_PROMPTS:,}. Send "
            "fewer class names or templates.",
            at="/templates",
        )


def _check_predictions(images: int, names: int, options: Options) -> None:
    """Limit the size of the response."""
    models = len(options.references)
    count = images * min(names, options.top_k or names) * models
    if count > MAX_PREDICTIONS:
        most = max(1, MAX_PREDICTIONS // (images * models))
        raise InvalidRequest(
            f"The response would have {count:,} predictions, and the maximum is {MAX_PREDICTIONS:,}. Send "
            f"`top_k` of at most {most:,}, or fewer images, class names or models.",
            at="/top_k",
        )
