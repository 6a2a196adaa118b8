"""Bodies of POST /classify, received and parsed."""

import base64
import binascii
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, QueryParams, UploadFile

from api.http.forms import check_fields, display_name, read_form
from api.http.problems import InvalidRequest, invalid_model, json_or_invalid, parsed_json
from clipcite.types.base import MAX_CLASSIFY_IMAGES
from clipcite.types.classify import ClassifyJson, Options
from core.clip.errors import InvalidConfig
from core.clip.prompts import check_templates
from core.settings import Settings

MAX_FORM_FIELDS = 20_000  # far above the limit on class names, whose error is more helpful
LISTS = ("class_names", "templates")
"""Fields that may be repeated, or contain a JSON list."""
WHITESPACE = b" \t\n\r\v\f"


@dataclass(frozen=True)
class Asked:
    """A parsed request."""

    images: list[bytes]
    """Files."""
    files: list[str | None]
    """Names of the files."""
    options: Options
    warnings: list[dict[str, str]] = field(default_factory=list)


Parse = Callable[[], Asked]


@asynccontextmanager
async def received(request: Request, settings: Settings) -> AsyncIterator[Parse]:
    """Receive the body: a form, JSON or an image.

    Yield a function that parses the body. Call that function in a thread.

    The function raises:
        InvalidRequest: the body breaks the contract. As many errors as possible are listed.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        body = await request.body()
        yield lambda: from_json(body, settings)
    elif content_type.startswith("image/") or content_type == "application/octet-stream":
        image = await request.body()
        yield lambda: Asked([image], [None], checked(_options_of(request.query_params)))
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


def from_json(body: bytes, settings: Settings) -> Asked:
    """Parse a `ClassifyJson` body. Raise InvalidRequest if it is invalid."""
    options = parsed_json(ClassifyJson, body)
    _check_count(len(options.images))
    images = _decode_base64([image.base64 for image in options.images], settings.max_image_bytes)
    files = [display_name(p.name) if p.name else None for p in options.images]
    return Asked(images, files, checked(options))


def _from_form(form: FormData, settings: Settings) -> Asked:
    options = _options_of(form)
    uploads = [upload for upload in form.getlist("images") if isinstance(upload, UploadFile)]
    if len(uploads) != len(form.getlist("images")):
        raise InvalidRequest("images must be files. Send each with a file name.", at="/images")
    _check_count(len(uploads))
    images = []
    for upload in uploads:
        images.append(upload.file.read(settings.max_image_bytes + 1))
        upload.file.close()  # frees its copy of the image
    files = [display_name(upload.filename) if upload.filename else None for upload in uploads]
    warnings = []
    names = form.getlist("class_names")
    if len(names) == 1 and "," in str(names[0]) and not str(names[0]).lstrip().startswith("["):
        detail = "The class name has a comma. To send several names, repeat the field or send a JSON list."
        warnings.append({"code": "comma_in_class_name", "detail": detail})
    return Asked(images, files, checked(options), warnings)


def checked(options: Options) -> Options:
    """Return the options. Raise InvalidRequest if a template is invalid."""
    if options.templates is not None:
        try:
            check_templates(options.templates)
        except InvalidConfig as error:
            raise InvalidRequest(error.detail, at="/templates") from error
    return options


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
    """Decode plain base64 or `data:` URLs.

    If any text is invalid, raise an InvalidRequest that lists all of them. Of an image larger than
    `max_bytes`, only enough is decoded for the image decoder to refuse it as too large.
    """
    decoded, errors = [], []
    for index, text in enumerate(texts):
        try:
            payload = (text.partition(",")[2] if text.startswith("data:") else text).encode("ascii")
            # `base64 image.jpg` wraps lines. Replace in bytes, because a list of lines needs far more memory.
            payload = payload.translate(None, WHITESPACE)
            decoded.append(base64.b64decode(payload[: 4 * (max_bytes // 3 + 1)], validate=True))
        except (binascii.Error, ValueError):
            errors.append({"pointer": f"/images/{index}/base64", "detail": "Not valid base64."})
    if errors:
        count = "An image is" if len(errors) == 1 else f"{len(errors)} images are"
        raise InvalidRequest(f"{count} not valid base64. Encode the files again; see errors.", errors)
    return decoded
