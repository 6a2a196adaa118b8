"""Request and response schemas of POST /classify."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.class_names import ClassIn, RawName, Sentence
from api.problems import Notice
from api.request_model import RequestModel
from core.clip.config import round_alpha
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.inference.request_rule import RequestKind
from core.clip.prompts import MAX_TEMPLATES
from core.settings import MAX_CLASS_NAMES, MAX_CLASSIFY_IMAGES
from core.store.registry.references import STOCK

MAX_MODELS = 5
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQV"
    "R42mM8EaXBwMDAxMDAwMDAAAAQQgFOeLLOJwAAAABJRU5ErkJggg=="
)
"""An image of 2 × 2 pixels, which makes the example in /docs complete."""


class ImageIn(RequestModel):
    base64: str = Field(description="Image file as base64 or as a `data:` URL.")
    name: Annotated[str, Field(json_schema_extra={"maxLength": 10_000})] | None = Field(
        None, description="File name, returned as `file`."
    )


class Options(RequestModel):
    """Fields that the form and the JSON body share."""

    class_names: list[RawName | ClassIn] = Field(
        fail_fast=True, max_length=MAX_CLASS_NAMES, description="Class names to rank, trained or new."
    )
    model: str = Field(
        STOCK,
        description="Model id, `name` (the latest version), `name@version`, `name@alias`, `stock` or "
        "`stock:<backbone>`. A job id selects the job's model, or until it exists an instant preview, a "
        "classifier that needs no training.",
        max_length=600,
    )
    models: list[Annotated[str, Field(max_length=600)]] | None = Field(
        None,
        fail_fast=True,
        min_length=1,
        max_length=MAX_MODELS,
        description="Models to compare, instead of `model`. `comparison` has one answer per model, in order.",
    )
    alpha: Annotated[float, Field(ge=0, le=1), AfterValidator(round_alpha)] | None = Field(
        None,
        description="Mixing weight from 0 (stock) to 1 (fine-tuned), rounded to 0.01. Default: the model's.",
    )
    templates: list[Sentence] | None = Field(
        None,
        fail_fast=True,
        max_length=MAX_TEMPLATES,
        description="Prompt templates, each with `{}` for the class name. Default: the model's.",
    )
    new_class_balance: float = Field(
        NEW_CLASS_BALANCE,
        ge=0,
        le=1,
        description="Correction of the bias towards trained classes, from 0 (none) to 1 (full). An offset is "
        "subtracted from the similarities of each class. It is estimated on the model's training images. 0 "
        "gives the scores of the paper, without a classifier among the trained classes. For an instant "
        "preview, 0 leaves out the offsets only.",
    )
    rule: Literal["auto", RequestKind] = Field(
        "auto",
        description="Scoring rule: `closed` for requests whose classes were all trained, `mixed` for some, "
        "`untrained` for none. `auto` chooses by the classes of the request. `untrained` gives the scores of "
        "the paper to any request; `closed` and `mixed` are one rule.",
    )
    top_k: int | None = Field(
        None, ge=1, description="Return only the K most likely classes. Default: all classes."
    )
    coverage: float | None = Field(
        None,
        ge=0.5,
        le=0.99,
        description="Return per image a `prediction_set` that contains the true class with this probability. "
        "The guarantee holds for images like the held-out ones. It needs a calibrated model and exactly its "
        "trained classes.",
    )
    reject: bool = Field(
        False,
        description="Return per image `rejected`, true if it resembles none of the trained classes. The "
        "threshold lets 95% of held-out images pass. It needs a calibrated model and exactly its trained "
        "classes.",
    )

    @property
    def references(self) -> list[str]:
        """References of all requested models."""
        return self.models or [self.model]


class ClassifyJson(Options):
    """Body of type `application/json`."""

    images: list[ImageIn] = Field(
        fail_fast=True, max_length=MAX_CLASSIFY_IMAGES, description="Images to classify."
    )


class ClassifyForm(Options):
    """Body of type `multipart/form-data`. Lists are repeated fields, or one field with a JSON array."""

    images: list[Annotated[str, Field(json_schema_extra={"format": "binary"})]] = Field(
        max_length=MAX_CLASSIFY_IMAGES, description="Image files to classify."
    )


ROUTING_KEY = "X-Clipcite-Model"
REQUEST_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": ROUTING_KEY,
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 600},
            "description": "Same value as `model`, or one of `models`. A load balancer reads headers, not "
            "bodies, and can use this one to route all requests of a model to the same server. Optional.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            # The schemas themselves are added by api.openapi.
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


Kind = Literal["trained", "new"]


class ClassKind(BaseModel):
    name: str = Field(description="Class name.")
    kind: Kind = Field(description="`trained` if the model was trained on this class, else `new`.")
    offset: float = Field(description="Offset that `new_class_balance` subtracted from the similarities.")


class Prediction(BaseModel):
    class_name: str
    kind: Kind = Field(description="`trained` if the model was trained on this class, else `new`.")
    probability: float = Field(description="Softmax over the requested classes.")
    similarity: float = Field(description="Cosine of image and class features.")


class ImageResult(BaseModel):
    file: str | None = Field(description="File name of the image, as sent.")
    predictions: list[Prediction] | None = Field(
        None, description="Classes, most likely first; null if the image can't be read."
    )
    prediction_set: list[str] | None = Field(
        None, description="With `coverage`: set of classes that contains the true one with that probability."
    )
    in_distribution_score: float | None = Field(
        None,
        description="Similarity to the nearest trained class, both to its name and its training images; null "
        "without calibration. Images below `rejection_threshold` are rejected.",
    )
    rejected: bool | None = Field(
        None, description="With `reject`: true if the image resembles none of the classes."
    )
    error: Notice | None = Field(None, description="Reason why the image can't be read.")


class Calibration(BaseModel):
    """Calibration of the probabilities.

    It needs at least 30 held-out images, a request for exactly the trained classes, and the model's own alpha
    and templates. An uncalibrated probability ranks the classes but is no estimate of accuracy.
    """

    calibrated: bool = Field(description="True if `probability` estimates the accuracy of the prediction.")
    temperature: float | None = Field(None, description="Temperature of the softmax.")
    held_out_images: int | None = Field(None, description="Number of images used for the calibration.")
    rejection_threshold: float | None = Field(
        None, description="Images with a lower `in_distribution_score` are rejected."
    )


class Timing(BaseModel):
    """Times in milliseconds."""

    decode: float = Field(description="Decoding of the images.")
    encode: float = Field(description="Encoding of the images, waiting time included.")
    total: float = Field(description="Whole request.")


ANSWER_EXAMPLE: JsonDict = {
    "model": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "reference": "animals@prod",
    "name": "animals",
    "version": 3,
    "preview": False,
    "backbone": "starter",
    "alpha": 0.5,
    "rule": "mixed",
    "calibration": {
        "calibrated": False,
        "temperature": None,
        "held_out_images": None,
        "rejection_threshold": None,
    },
    "class_names": [
        {"name": "red fox", "kind": "trained", "offset": 0.11},
        {"name": "hedgehog", "kind": "new", "offset": 0.07},
    ],
    "results": [
        {
            "file": "a.jpg",
            "predictions": [
                {"class_name": "red fox", "kind": "trained", "probability": 0.93, "similarity": 0.31},
                {"class_name": "hedgehog", "kind": "new", "probability": 0.07, "similarity": 0.245},
            ],
            "prediction_set": None,
            "in_distribution_score": None,
            "rejected": None,
            "error": None,
        }
    ],
    "timing_ms": {"decode": 2.1, "encode": 11.0, "total": 14.2},
    "warnings": [],
}


class ModelAnswer(BaseModel):
    """Predictions of one model."""

    model: str = Field(description="Model id, job id of an instant preview, or `stock…` as requested.")
    reference: str = Field(description="Reference from the request.")
    name: str | None = Field(description="Name of the model; null if it has none.")
    version: int | None = Field(description="Version of the model within its name.")
    preview: bool = Field(description="True for an instant preview: the job has no model yet.")
    backbone: str
    alpha: float = Field(description="Mixing weight that was used.")
    rule: RequestKind = Field(
        description="Scoring rule that was used: `closed`, `mixed` or `untrained`. A model without training "
        "images, such as `stock`, scores every request as `untrained`."
    )
    calibration: Calibration
    class_names: list[ClassKind] = Field(description="Requested classes, cleaned.")
    results: list[ImageResult] = Field(description="One result per image, in request order.")
    timing_ms: Timing


class Classification(ModelAnswer):
    """Response to a request with one model."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER_EXAMPLE]})

    warnings: list[Notice]


class Comparison(BaseModel):
    """Response to a request with `models`: one answer per model for the same images and classes."""

    comparison: list[ModelAnswer] = Field(description="Answers in the order of `models`.")
    warnings: list[Notice]
