"""Piles: images that wait for labels, what people said about them, and their sort."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from clipcite.types.base import Open, RawName, RequestModel, Resource, ResponseModel
from clipcite.types.classify import STOCK, Calibration, ClassKind, ClassNames
from clipcite.types.problems import Notice

MAX_PILE_IMAGES = 20_000
MAX_GROUPS = 500
MAX_ASKED = 1_000
MIN_DRAWN = 8
"""Minimum number of answers about images drawn at random to measure the accuracy of a sort."""
NOT_MEASURED = "Not measured yet. Check with 20 tells you."
"""`PileSort.sentence` while labels of images drawn at random can still measure the sort."""
Said = Literal["class", "none", "not_class", "skip", "withdrawn"]
How = Literal["group", "member", "drawn", "chosen", "moved"]
Name = Annotated[str, Field(max_length=200)]


ANSWERS_EXAMPLE: JsonDict = {
    "answers": [
        {"positions": [0, 1], "said": "class", "class_name": "red fox", "how": "group"},
        {"positions": [2], "said": "not_class", "class_name": "red fox", "how": "group"},
        {"positions": [3], "said": "none", "how": "drawn"},
    ]
}


class AnswerIn(RequestModel):
    """What a person said about images."""

    positions: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, max_length=MAX_PILE_IMAGES, description="Positions of the images."
    )
    said: Said = Field(
        description="`class`: the images are of `class_name`. `none`: they are of none of the classes. "
        "`not_class`: they are not of `class_name`, or with null, they are of one of the classes. `skip`: "
        "the person doesn't know. `withdrawn`: takes back all answers about the images."
    )
    class_name: RawName | None = None
    how: How = Field(
        description="How the person was asked. `group`: the image was shown with its group. `member`: it is "
        "in a group of which the person saw only some images, so it gets no label. `drawn`: it was drawn at "
        "random, and shown alone. `chosen`: the service chose it, and it was shown alone. `moved`: the "
        "person chose it; several images with one answer count as `group`."
    )

    @model_validator(mode="after")
    def _has_a_name(self) -> "AnswerIn":
        if self.said == "class" and self.class_name is None:
            raise ValueError("`class` needs a `class_name`")
        if self.said not in ("class", "not_class") and self.class_name is not None:
            raise ValueError(f"`{self.said}` has no `class_name`")
        return self

    @property
    def counts_as(self) -> How:
        """How the person was asked, as it counts: who moves several images at once may not look at each."""
        together = self.how == "moved" and len(self.positions) > 1 and self.said in ("class", "none", "skip")
        return "group" if together else self.how


class AnswersJson(RequestModel):
    """Answers in the order in which they were given."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWERS_EXAMPLE]})

    answers: list[AnswerIn] = Field(min_length=1, max_length=MAX_PILE_IMAGES)


class PileIn(RequestModel):
    """Body of `POST /piles`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "club photos", "class_names": ["red fox", "badger"]}]}
    )

    name: Name | None = Field(None, description="Name for people. Default: the time.")
    model: str = Field(
        STOCK, max_length=600, description="Model that sorts the pile, as in `POST /classify`."
    )
    class_names: ClassNames | None = Field(
        None, description="Class names. Default: the model's. Names in answers are added to them."
    )
    keeps_images: bool = Field(
        True,
        description="Keep reduced copies of the images, which another model, another browser and a training "
        "need. Without them only features are kept.",
    )


class PilePatch(RequestModel):
    """Fields to change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "club photos of 2025"}]})

    name: Name | None = None
    model: str | None = Field(None, max_length=600)
    class_names: ClassNames | None = None


class PileCounts(ResponseModel):
    images: int
    labelled: int = Field(description="Number of images with a label: a class, or none of these.")
    none: int = Field(description="Number of these that are of none of the classes.")
    drawn: int = Field(description="Number of labelled images that were drawn at random.")


class Pile(Resource):
    """Images that wait for labels."""

    id: str
    object: Literal["pile"] = "pile"
    name: str
    model: str = Field(description="Reference of the model that sorts the pile.")
    class_names: list[str] = Field(
        description="Class names that were given for the sort, or that people used. Without any, the sort "
        "uses those of the model."
    )
    keeps_images: bool
    counts: PileCounts
    bytes: int = Field(description="Stored bytes.")
    revision: int = Field(description="Grows with each change of images, answers or settings.")
    created_at: datetime
    used_at: datetime
    created_by: str | None = None
    deleted_at: datetime | None = Field(
        None, description="Time at which the pile is deleted unless it is used before; null for never."
    )


class PilePage(ResponseModel):
    data: list[Pile]
    has_more: bool
    next_cursor: str | None


class PileLabel(ResponseModel):
    """What people said about an image: the answer that counts."""

    said: Open[Said] = Field(description="The answer that counts: `class`, `none`, `skip` or `not_class`.")
    class_name: str | None
    how: Open[How]
    by: str | None = Field(description="Id of the key of the person who gave it.")
    at: datetime


class PileImage(ResponseModel):
    position: int
    file: str = Field(description="Path below the folder, with `/`.")
    sha256: str = Field(description="SHA-256 of the file as it was sent.")
    answer: PileLabel | None = None
    not_classes: list[str | None] = Field(
        [], description="Classes that a person excluded; null is none of these."
    )


class PileImages(ResponseModel):
    data: list[PileImage]


class AddedImage(ResponseModel):
    """Image of an upload."""

    file: str
    position: int | None = Field(description="Position in the pile; null if it can't be read.")
    is_new: bool = Field(description="False if the pile already had it.")
    error: Notice | None = None


class AddedImages(ResponseModel):
    images: list[AddedImage]
    pile: Pile


class MatchJson(RequestModel):
    """SHA-256 of files."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sha256": ["0" * 64]}]})

    sha256: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64)]] = Field(
        min_length=1, max_length=MAX_PILE_IMAGES
    )


class PileMatch(ResponseModel):
    pile: Pile
    positions: list[int | None] = Field(description="Position of each file; null if the pile lacks it.")


class PileMatches(ResponseModel):
    data: list[PileMatch] = Field(description="Piles with any of the files, those with the most first.")


class SortedImage(ResponseModel):
    """Place of an image in a sort."""

    position: int
    class_name: str | None = Field(description="Class; null for something else, or without class names.")
    probability: float | None = Field(
        description="Probability of the class; null if a person said it, for something else, or without "
        "class names."
    )
    something_else: bool
    score: float | None = Field(
        None, description="Likeness to the classes, minus the limit. Below 0 it is something else."
    )


class AskedImage(ResponseModel):
    position: int
    drawn: bool = Field(
        description="Drawn at random. Show neither what the sort nor what people said, and answer with "
        "`how: drawn`."
    )


class PileGroup(ResponseModel):
    """Images to ask about together."""

    kind: Open[Literal["alike", "least_like"]] = Field(
        description="`alike`: they look alike. `least_like`: they are least like any class; asked once, as "
        "long as nobody has said `none`."
    )
    shown: list[int] = Field(description="Images to show, at most nine.")
    members: list[int] = Field(description="All images, the most typical first.")


class Measured(ResponseModel):
    """Accuracy of a sort, measured on a random sample of the pile.

    The sample is the beginning of the pile's random order, up to the first image that nobody was asked about
    alone.
    """

    right: int
    drawn: int = Field(description="Number of labelled images of the sample.")
    total: int = Field(description="Number of images in the pile.")
    accuracy: float
    interval: tuple[float, float] = Field(description="95% confidence interval.")


class PileSort(Resource):
    """Sort of a pile."""

    object: Literal["pile_sort"] = "pile_sort"
    pile: Pile
    ready: bool = Field(description="False while features are computed (status 202).")
    done: int = Field(description="Number of images with features.")
    model: str | None = Field(None, description="Model id, job id of an instant preview, or `stock…`.")
    alpha: float | None = None
    class_names: list[ClassKind] = Field([])
    method: Open[Literal["self_training", "image_by_image"]] | None = None
    reason: str | None = Field(None, description="Reason for the method, for people.")
    calibration: Calibration | None = None
    images: list[SortedImage] = Field([], description="One per image, in order of position.")
    groups: list[PileGroup] = Field([])
    ask: list[AskedImage] = Field([], description="Images to ask about next, one by one.")
    unchecked: int = Field(0, description="Number of images that `draw` can ask about.")
    measured: Measured | None = Field(
        None, description=f"Null with fewer than {MIN_DRAWN} labelled images in the random sample."
    )
    sentence: str | None = Field(
        None,
        description="`measured` in words, or why nothing is measured, for people; null without class names.",
    )
    warnings: list[Notice] = Field([])
