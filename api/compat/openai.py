"""OpenAI's embeddings API: `POST /v1/embeddings` for images and texts, and `GET /v1/models`."""

import base64
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from pydantic_core import to_json

from api.classify.routes import run_admitted
from api.classify.scoring import Images
from api.deps import CurrentOwner, DatabaseDep
from api.http.problems import InvalidRequest, parsed_json
from api.models.routes import list_models
from api.serving.held_model import HeldModel
from api.serving.service import Serving, look_up
from clipcite.types.base import RequestModel
from clipcite.types.models import ModelQuery
from clipcite.types.problems import Problem
from core.admission import Take
from core.clip.config import round_alpha
from core.clip.errors import BadImage
from core.store.db.session import Database
from core.store.db.tables import Model

MAX_IMAGES, MAX_TEXTS, MAX_CHARACTERS = 64, 2_048, 1_000
PREFIX = "/v1"
router = APIRouter(prefix=PREFIX)


class BadRequest(InvalidRequest):
    status = 400


class EmbeddingsIn(RequestModel):
    """Body of POST /v1/embeddings. `alpha` is our addition."""

    model: str = Field(max_length=600)
    input: Any
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    alpha: Annotated[float, Field(ge=0, le=1), AfterValidator(round_alpha)] | None = None


def render(problem: Problem) -> Mapping[str, Any]:
    """Return a problem in OpenAI's format."""
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    param = problem.errors[0].pointer if problem.errors else None
    return {"error": {"message": problem.detail, "type": kind, "param": param, "code": problem.code}}


@router.get("/models")
async def models(database: DatabaseDep, owner: CurrentOwner) -> Any:
    """List the pre-trained model and the owner's newest 100 models."""
    page = (await list_models(database, owner, ModelQuery(limit=100))).data
    rows = [(f"{m.name}@{m.version}" if m.name else m.id, int(m.created_at.timestamp())) for m in page]
    data = [{"id": i, "object": "model", "created": at, "owned_by": owner} for i, at in [("stock", 0), *rows]]
    return {"object": "list", "data": data}


@router.post("/embeddings")
async def embeddings(request: Request) -> Response:
    """Return L2-normalised features of images and texts at `alpha`. Texts are encoded without a template."""
    request.app.state.serving.images.check()
    content, response = await run_admitted(request, partial(_embeddings, await request.body()))
    return Response(response, media_type="application/json", headers={"X-Clipcite-Content": content})


def _embeddings(
    body: bytes, serving: Serving, database: Database, owner: str, take: Take
) -> tuple[str, bytes]:
    """Return a key that identifies the weights and α, and the body of the response."""
    try:
        asked = parsed_json(EmbeddingsIn, body)
    except InvalidRequest as invalid:
        raise BadRequest(invalid.detail, invalid.errors) from invalid
    images, texts = _inputs(asked.input)
    subject = look_up(database, asked.model, owner=owner)
    take(max(0, len(images) - 1))
    with serving.hold(subject, asked.alpha) as model:
        rows = _features(images, texts, serving, model, take)
    if asked.dimensions not in {None, rows.shape[1]}:
        detail = f"dimensions must be {rows.shape[1]}, the length of this model's features. Leave it out."
        raise BadRequest(detail, at="/dimensions")
    as_text = asked.encoding_format == "base64"
    vectors = [base64.b64encode(row.tobytes()) if as_text else row.tolist() for row in rows]
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    response = to_json({"object": "list", "model": model.name, "data": data, "usage": usage})
    if isinstance(subject, Model):
        return f"{subject.sha256[:16]}@{model.alpha:g}", response
    return f"{model.served.backbone.sha256[:16]}@0", response


def _features(
    images: dict[int, bytes], texts: dict[int, str], serving: Serving, model: HeldModel, take: Take
) -> NDArray[np.float32]:
    """Return the features of the inputs in their order: [N, D], little-endian, L2-normalised."""
    import torch  # here, because the import takes seconds

    served, engine = model.served, serving.engine
    pixels: list[torch.Tensor] = []
    for batch in Images(list(images.values()), serving).decoded(served):
        take(0)
        for image in batch:
            if isinstance(image, BadImage):
                raise _bad_input(list(images)[len(pixels)], image.detail, image.code)
            pixels.append(image)
    encoded: list[torch.Tensor] = []
    if pixels:
        encoded += engine.encode_images(served, torch.stack(pixels), wait_seconds=engine.wait_seconds)
    if texts:
        encoded += serving.texts.features(served, [(text,) for text in texts.values()], take)
    by_place = dict(zip([*images, *texts], encoded, strict=True))
    return torch.stack([by_place[i] for i in range(len(by_place))]).numpy().astype("<f4")


def _inputs(given: Any) -> tuple[dict[int, bytes], dict[int, str]]:
    """Return the image files and the texts of an input, each by position."""
    images, texts = dict[int, bytes](), dict[int, str]()
    for i, item in enumerate(given if isinstance(given, list) else [given]):
        pairs = list(item.items()) if isinstance(item, dict) else [("text", item)]
        kind, value = pairs[0] if len(pairs) == 1 else ("", None)
        if kind not in {"text", "image"} or not isinstance(value, str):
            raise _bad_input(i, 'Send text, a data: URL, {"text": "…"} or {"image": "…"}, not token ids.')
        if kind == "image" or value.startswith(("data:image/", "http://", "https://")):
            try:
                images[i] = base64.b64decode(value.rpartition(",")[2], validate=True)
            except ValueError:
                raise _bad_input(i, "Not base64 of an image file. URLs are not fetched.") from None
        elif 0 < len(value) <= MAX_CHARACTERS:
            texts[i] = value
        else:
            raise _bad_input(i, f"A text must have 1 to {MAX_CHARACTERS:,} characters.")
    if len(images) > MAX_IMAGES or len(texts) > MAX_TEXTS or not images | texts:
        detail = f"Send 1 to {MAX_IMAGES} images, or 1 to {MAX_TEXTS:,} texts."
        raise BadRequest(detail, code="too_many_inputs", at="/input")
    return images, texts


def _bad_input(place: int, detail: str, code: str | None = None) -> BadRequest:
    return BadRequest(detail, code=code, at=f"/input/{place}")
