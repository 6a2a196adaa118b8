"""Responses of a classification: predictions per image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, overload

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from typing_extensions import TypedDict

from clipcite.types.base import NullAsEmpty, Open, Resource, ResponseModel
from clipcite.types.classify import Rule
from clipcite.types.problems import Notice

Kind = Literal["trained", "new"]
SHOWN_CLASSES = 3
SHOWN_IMAGES = 20
"""Maximum number of images in the text of a result, and of classes per image."""


class ClassKind(ResponseModel):
    name: str = Field(description="Class name.")
    kind: Open[Kind] = Field(description="`trained` if the model was trained on this class, else `new`.")
    offset: float = Field(description="Offset that `new_class_balance` subtracted from the similarities.")


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
