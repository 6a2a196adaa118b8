"""What POST /classify takes, as a form or as JSON."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.class_names import ClassIn, RawName, Sentence
from api.problems import Notice
from api.request_model import RequestModel
from core.clip.config import round_alpha
from core.clip.inference.class_offsets import NEW_CLASS_BALANCE
from core.clip.prompts import MAX_TEMPLATES
from core.settings import MAX_CLASS_NAMES, MAX_CLASSIFY_IMAGES
from core.store.registry.references import STOCK

MAX_MODELS = 5
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQV"
    "R42mM8EaXBwMDAxMDAwMDAAAAQQgFOeLLOJwAAAABJRU5ErkJggg=="
)
"""An image of 2 x 2 pixels, for the example: what /docs shows can be sent as it is."""


class ImageIn(RequestModel):
    base64: str
    name: Annotated[str, Field(json_schema_extra={"maxLength": 10_000})] | None = Field(
        None, description="Comes back as `file`."
    )


class Options(RequestModel):
    """What a form and a JSON body have in common."""

    class_names: list[RawName | ClassIn] = Field(
        fail_fast=True, max_length=MAX_CLASS_NAMES, description="Any names, trained or not."
    )
    model: str = Field(
        STOCK,
        description="A model's id, its `name` (the latest version), `name@version`, `name@alias`, `stock`, "
        "or `stock:<backbone>`. Or a job's id: its model, and as long as it has none a preview, which its "
        "images make without training.",
        max_length=600,
    )
    models: list[Annotated[str, Field(max_length=600)]] | None = Field(
        None,
        fail_fast=True,
        min_length=1,
        max_length=MAX_MODELS,
        description="Instead of `model`: several, to compare. `comparison` has each one's answer, in order.",
    )
    alpha: Annotated[float, Field(ge=0, le=1), AfterValidator(round_alpha)] | None = Field(
        None, description="Rounded to 0.01; default the model's."
    )
    templates: list[Sentence] | None = Field(
        None, fail_fast=True, max_length=MAX_TEMPLATES, description="Default the model's."
    )
    new_class_balance: float = Field(
        NEW_CLASS_BALANCE,
        ge=0,
        le=1,
        description=(
            "Some names look a little like every image, and fine-tuning draws images of new classes to "
            "the trained names. How much of that, as the model's own images tell it, is taken off each "
            "name; 0: nothing."
        ),
    )
    top_k: int | None = Field(None, ge=1, description="Only the best so many names; default all.")
    coverage: float | None = Field(
        None,
        ge=0.5,
        le=0.99,
        description="Adds to each image the `names` among which the true one is so often, on images like "
        "those that the model was measured on. For a model asked for exactly its trained names.",
    )
    reject: bool = Field(
        False,
        description="Adds to each image whether it is `rejected`: less like any of the trained classes, "
        "their names and their images, than 19 in 20 of their own images are. For a model asked for "
        "exactly its trained names.",
    )

    @property
    def references(self) -> list[str]:
        """The models that are asked."""
        return self.models or [self.model]


class ClassifyJson(Options):
    images: list[ImageIn] = Field(fail_fast=True, max_length=MAX_CLASSIFY_IMAGES)


class ClassifyForm(Options):
    """`multipart/form-data`. `class_names`, `templates` and `models` are repeated, or one JSON array."""

    images: list[Annotated[str, Field(json_schema_extra={"format": "binary"})]] = Field(
        max_length=MAX_CLASSIFY_IMAGES
    )


ROUTING_KEY = "X-Clipcite-Model"
REQUEST_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": ROUTING_KEY,
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 600},
            "description": "The same as `model` (or one of `models`), for a load balancer before several "
            "of these: it sees headers, not bodies, and sends all requests of a model to where that is warm. "
            "Not needed otherwise.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            # The schemas themselves are put into the document in api.app.
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
    name: str
    kind: Kind
    offset: float = Field(description="What new_class_balance took off this name's similarities.")


class Prediction(BaseModel):
    class_name: str
    kind: Kind
    probability: float
    similarity: float


class ImageResult(BaseModel):
    file: str | None
    predictions: list[Prediction] | None = None
    prediction_set: list[str] | None = Field(
        None, description="With `coverage`: the set that holds the true name."
    )
    in_distribution_score: float | None = Field(
        None,
        description="Where `calibration` is calibrated: how much it looks like the nearest of the trained "
        "classes, its name and its images. Below `rejection_threshold` the image is rejected.",
    )
    rejected: bool | None = Field(None, description="With `reject`: it looks like none of the names.")
    error: Notice | None = None


class Calibration(BaseModel):
    """Known for a model that was measured on 30 images or more, asked for exactly its trained names as it
    stands. Elsewhere a probability says which name fits better, not how often it is right."""

    calibrated: bool = Field(description="Whether `probability` is how often such an answer is right.")
    temperature: float | None = None
    held_out_images: int | None = Field(None, description="Images that it was fitted on.")
    rejection_threshold: float | None = Field(None, description="Below it an image is rejected.")


class Timing(BaseModel):
    decode: float
    encode: float
    total: float


ANSWER_EXAMPLE: JsonDict = {
    "model": "mdl_01m883zfhkxd2329sa0r05wkw7",
    "reference": "animals@prod",
    "name": "animals",
    "version": 3,
    "preview": False,
    "backbone": "starter",
    "alpha": 0.5,
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
    """What one model says."""

    model: str = Field(description="Its id, the job's if it is a preview, or `stock…` as it was asked for.")
    reference: str = Field(description="What was asked for.")
    name: str | None
    version: int | None
    preview: bool = Field(description="The answer is of a job's images: the job has no model (yet).")
    backbone: str
    alpha: float
    calibration: Calibration
    class_names: list[ClassKind]
    results: list[ImageResult]
    timing_ms: Timing


class Classification(ModelAnswer):
    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER_EXAMPLE]})

    warnings: list[Notice]


class Comparison(BaseModel):
    """The answer to `models`: one for each, in their order, on the same images and names."""

    comparison: list[ModelAnswer]
    warnings: list[Notice]
