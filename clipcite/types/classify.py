"""Requests and responses of a classification: class names, images, options, and predictions per image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, overload

from pydantic import ConfigDict, Discriminator, Field, GetPydanticSchema, Tag, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypedDict

from clipcite.types.base import (
    MAX_CLASS_NAMES,
    MAX_CLASSIFY_IMAGES,
    MAX_TEMPLATES,
    NullAsEmpty,
    Open,
    RawName,
    RequestModel,
    Resource,
    ResponseModel,
    Sentence,
)
from clipcite.types.problems import Notice

STOCK = "stock"
"""Reference of the pre-trained model."""
NEW_CLASS_BALANCE = 0.35
"""Default balance; benchmarks/pages/accuracy.md has the measurements."""
Rule = Literal["closed", "mixed", "untrained"]
Kind = Literal["trained", "new"]
SHOWN_CLASSES = 3
SHOWN_IMAGES = 20
"""Maximum number of images in the text of a result, and of classes per image."""


class ClassIn(RequestModel):
    name: RawName = Field(description="Class name, as it appears in the response.")
    prompts: list[Sentence] | None = Field(
        None,
        fail_fast=True,
        max_length=MAX_TEMPLATES,
        description="Prompts for this class, used instead of the templates.",
    )


class ClassName(NamedTuple):
    """A class name as it was sent: a string, or an object with prompts."""

    name: str
    prompts: tuple[str, ...] | None = None

    def as_json(self) -> str | dict[str, Any]:
        return self.name if self.prompts is None else self._asdict()


_Sent = Annotated[
    list[
        Annotated[
            Annotated[RawName, Tag("str")] | Annotated[ClassIn, Tag("ClassIn")],
            Discriminator(lambda sent: "ClassIn" if isinstance(sent, (dict, ClassIn)) else "str"),
        ]
    ],
    Field(fail_fast=True, max_length=MAX_CLASS_NAMES),
]


def _named(sent: list[str | ClassIn]) -> list[ClassName]:
    return [
        ClassName(each)
        if isinstance(each, str)
        else ClassName(each.name, None if each.prompts is None else tuple(each.prompts))
        for each in sent
    ]


ClassNames = Annotated[
    list[ClassName],
    GetPydanticSchema(
        lambda _, handler: core_schema.no_info_after_validator_function(
            _named, handler.generate_schema(_Sent)
        )
    ),
]
"""Class names as they were sent. `core.clip.prompts.Candidates` has the resolved ones."""


class ImageIn(RequestModel):
    base64: str = Field(description="Image file as base64 or as a `data:` URL.")
    name: Annotated[str, Field(json_schema_extra={"maxLength": 10_000})] | None = Field(
        None, description="File name, returned as `file`."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise PydanticCustomError(
                "image_is_text",
                'An image is an object with the file as base64, such as {"base64": "iVBORw0…"}, or a file of '
                "a multipart form. URLs of images are not fetched",
            )
        return value


class ClassifyOptions(TypedDict, total=False):
    """Options of `Client.classify`. `Options` describes them for the service."""

    alpha: float | None
    """Mixing weight, 0 (pre-trained) to 1 (fine-tuned) (default: the model's)."""
    templates: Sequence[str] | None
    """Prompt templates such as "a photo of a {}." (default: the model's)."""
    new_class_balance: float | None
    """Factor of the offset against trained classes (default: the service's)."""
    top_k: int | None
    """Number of classes per image (default: all)."""
    something_else: bool
    """Return per image `something_else`: True if it is unlike the training images of all these classes."""
    coverage: float | None
    """Return per image a prediction set that contains the true class with this probability."""


class Options(RequestModel):
    """Fields that the form and the JSON body share."""

    class_names: ClassNames | None = Field(
        None, description="Class names to rank, trained or new. Default: the model's trained classes."
    )
    model: str = Field(
        STOCK,
        description="Model id, `name` (the version in use), `name@version`, `name@alias`, `stock` or "
        "`stock:<backbone>`. A job id selects the job's model. Until the model exists, it selects an instant "
        "preview, a classifier that needs no training.",
        max_length=600,
    )
    alpha: Annotated[float, Field(ge=0, le=1)] | None = Field(
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
        description="Correction of the bias towards trained classes, from 0 (none) to 1 (full). An offset, "
        "estimated on the model's training images, is subtracted from the similarities of each class. 0 "
        "gives the scores of the paper, without a classifier among the trained classes.",
    )
    top_k: int | None = Field(
        None, ge=1, description="Return only the K most likely classes. Default: all classes."
    )
    something_else: bool = Field(
        False,
        description="Return per image `something_else`: true if it is unlike the training images of all "
        "requested classes. The limit comes from these training images, each compared with "
        "the others, and accepts about 95% of new images of the classes. An image whose most likely class is "
        "untrained is never something else. The field calls this open-set recognition.",
    )
    coverage: float | None = Field(
        None,
        ge=0.5,
        le=0.99,
        description="Return per image a `prediction_set` that contains the true class with this probability. "
        "The guarantee holds for images like the held-out ones. It needs a calibrated model and exactly its "
        "trained classes.",
    )


@dataclass(frozen=True)
class Prediction:
    """A class and its probability for one image.

    A response may have 100,000 of them, and as models they would take twice as long.
    """

    class_name: str
    kind: Annotated[
        Open[Kind], Field(description="`trained` if the model was trained on this class, else `new`.")
    ]
    probability: Annotated[float, Field(description="Softmax over the requested classes.")]
    similarity: Annotated[
        float,
        Field(
            description="Cosine of image and class features, at α 0 if the pre-trained model answers the "
            "image."
        ),
    ]


class ImageResult(ResponseModel):
    file: str | None = Field(description="File name of the image, as sent.")
    predictions: Annotated[list[Prediction], NullAsEmpty()] = Field(
        default_factory=list, description="Classes, most likely first; empty if the image can't be read."
    )
    prediction_set: list[str] | None = Field(
        None, description="With `coverage`: classes that include the true class with this probability."
    )
    likeness: float | None = Field(
        None,
        description="With `something_else`: likeness to the training images. Images below "
        "`likeness_limit` are something else.",
    )
    something_else: bool | None = Field(
        None, description="With `something_else`: true if the image belongs to none of the classes."
    )
    error: Notice | None = Field(None, description="Reason why the image can't be read.")

    @property
    def best(self) -> Prediction:
        """The most likely class.

        Raises:
            ValueError: the image can't be read; `error` has the reason.
        """
        if not self.predictions:
            raise ValueError(str(self))
        return self.predictions[0]

    @property
    def class_name(self) -> str:
        """Name of the most likely class. Raises the error of `best`."""
        return self.best.class_name

    def __str__(self) -> str:
        """Return one line, such as `a.jpg: skirt 93.1%, dress 6.9%`."""
        if self.error is not None:
            return f"{self.file}: {self.error.detail}"
        shown = [f"{each.class_name} {each.probability:.1%}" for each in self.predictions[:SHOWN_CLASSES]]
        more = len(self.predictions) - len(shown)
        words = [
            *(["something else"] if self.something_else else []),
            *shown,
            *([f"and {more} more"] if more else []),
        ]
        return f"{self.file}: {', '.join(words)}"

    def __repr__(self) -> str:
        return f"<{self}>"


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


class ClassKind(ResponseModel):
    name: str = Field(description="Class name.")
    kind: Open[Kind] = Field(description="`trained` if the model was trained on this class, else `new`.")
    offset: float = Field(description="Offset that `new_class_balance` subtracted from the similarities.")


class Calibration(ResponseModel):
    """Calibration of the probabilities.

    It needs at least 30 held-out images, a request for exactly the trained classes, and the model's own alpha
    and templates. Other requests at this alpha use the same temperature, but their probabilities were not
    checked.
    """

    calibrated: bool = Field(description="True if `probability` estimates the accuracy of the prediction.")
    temperature: float | None = Field(None, description="Temperature of the softmax; null without one.")
    held_out_images: int | None = Field(None, description="Number of images used for the calibration.")
    likeness_limit: float | None = Field(
        None, description="With `something_else`: images with a lower `likeness` are something else."
    )


class Timing(TypedDict):
    """Times in milliseconds."""

    decode: Annotated[float, Field(description="Decoding of the images.")]
    encode: Annotated[float, Field(description="Encoding of the images, including waiting time.")]
    total: Annotated[float, Field(description="Whole request.")]


RESULT_EXAMPLE: JsonDict = {
    "file": "a.jpg",
    "predictions": [
        {"class_name": "red fox", "kind": "trained", "probability": 0.93, "similarity": 0.31},
        {"class_name": "hedgehog", "kind": "new", "probability": 0.07, "similarity": 0.245},
    ],
    "prediction_set": None,
    "likeness": None,
    "something_else": None,
    "error": None,
}
CLASSIFICATION_EXAMPLE: JsonDict = {
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
        "likeness_limit": None,
    },
    "class_names": [
        {"name": "red fox", "kind": "trained", "offset": 0.11},
        {"name": "hedgehog", "kind": "new", "offset": 0.07},
    ],
    "results": [RESULT_EXAMPLE],
    "timing_ms": {"decode": 2.1, "encode": 11.0, "total": 14.2},
    "warnings": [],
}


class Classification(Resource):
    """Predictions of a model."""

    model_config = ConfigDict(json_schema_extra={"examples": [CLASSIFICATION_EXAMPLE]})

    model: str = Field(description="Model id, job id of an instant preview, or `stock…` as requested.")
    reference: str = Field(description="Reference from the request.")
    name: str | None = Field(None, description="Name of the model; null if it has none.")
    version: int | None = Field(None, description="Version of the model within its name.")
    preview: bool = Field(description="True for an instant preview: the job has no model yet.")
    backbone: str
    alpha: float = Field(description="Mixing weight that was used.")
    rule: Open[Rule] = Field(
        description="Scoring rule that was used: `closed`, `mixed` or `untrained`. A model without training "
        "images, such as `stock`, scores every request as `untrained`."
    )
    calibration: Calibration
    class_names: list[ClassKind] = Field(description="Requested classes, cleaned.")
    results: list[ImageResult] = Field(description="One result per image, in request order.")
    timing_ms: Timing
    warnings: list[Notice]

    @overload
    def __getitem__(self, index: int) -> ImageResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageResult]: ...
    def __getitem__(self, index: int | slice) -> ImageResult | list[ImageResult]:
        """Return the result of an image, in the order of the request."""
        return self.results[index]

    def __iter__(self) -> Iterator[ImageResult]:  # type: ignore[override]  # pydantic yields fields
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __str__(self) -> str:
        """Return one line per image, of the first images."""
        more = len(self.results) - SHOWN_IMAGES
        return "\n".join(
            [*map(str, self.results[:SHOWN_IMAGES]), *([f"and {more} more images"] if more > 0 else [])]
        )

    __repr__ = __str__
