"""Requests for a classification: class names, images, options."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Field, GetPydanticSchema, Tag, model_validator
from pydantic_core import PydanticCustomError, core_schema

from clipcite.types.base import (
    MAX_CLASS_NAMES,
    MAX_CLASSIFY_IMAGES,
    MAX_TEMPLATES,
    RawName,
    RequestModel,
    Sentence,
)

STOCK = "stock"
"""Reference of the pre-trained model."""
NEW_CLASS_BALANCE = 0.35
"""Default balance; benchmarks/pages/accuracy.md has the measurements."""
Rule = Literal["closed", "mixed", "untrained"]


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
