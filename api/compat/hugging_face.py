"""Hugging Face's inference schema: `POST /hf/{model}` classifies an image into given or trained classes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import pydantic_core
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.classify.request import Asked, Parse, checked, from_json
from api.classify.routes import answer_classify
from api.http.problems import parsed_json
from clipcite.types.base import RequestModel
from clipcite.types.classify import Options
from clipcite.types.problems import Problem
from core.settings import Settings

PREFIX = "/hf"
router = APIRouter(prefix=PREFIX)


class Parameters(RequestModel):
    """Parameters of the tasks zero-shot-image-classification and image-classification."""

    candidate_labels: list[str] | None = Field(None, min_length=1)
    hypothesis_template: str | None = None
    function_to_apply: Literal["softmax"] | None = None
    top_k: int | None = Field(None, ge=1)


class EncodedImage(BaseModel):
    """An image as the JavaScript client sends it."""

    image: str


class InferenceIn(BaseModel):
    """Body of type `application/json`. Fields of later versions of the schema are ignored."""

    inputs: str | EncodedImage
    parameters: Parameters = Parameters()


def render(problem: Problem) -> Mapping[str, Any]:
    """Return a problem in Hugging Face's format."""
    only = problem.code == "bad_images" and problem.errors  # a request has one image
    text = problem.errors[0].detail if only else problem.detail
    return {"error": text.replace("class_names", "candidate_labels"), "error_type": problem.code}


@router.post("/{model:path}")
async def infer(request: Request) -> list[dict[str, Any]]:
    """Classify an image, sent as base64 with parameters or as a file. The best class comes first."""
    [result] = pydantic_core.from_json(await answer_classify(request, received))["results"]
    return [{"label": p["class_name"], "score": p["probability"]} for p in result["predictions"]]


@asynccontextmanager
async def received(request: Request, settings: Settings) -> AsyncIterator[Parse]:
    body, options = await request.body(), Options.model_construct(model=request.path_params["model"])
    if request.headers.get("content-type", "").startswith("application/json"):
        yield lambda: _from_json(body, options.model, settings)
    else:
        yield lambda: Asked([body], [None], checked(options))


def _from_json(body: bytes, model: str, settings: Settings) -> Asked:
    given = parsed_json(InferenceIn, body)
    encoded = given.inputs if isinstance(given.inputs, str) else given.inputs.image
    template = given.parameters.hypothesis_template
    fields = {
        "model": model,
        "images": [{"base64": encoded}],
        "class_names": given.parameters.candidate_labels,
        "templates": None if template is None else [template],
        "top_k": given.parameters.top_k,
    }
    return from_json(pydantic_core.to_json(fields), settings)
