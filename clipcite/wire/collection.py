"""Requests and responses for collections of images."""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from clipcite.wire.base import Open
from clipcite.wire.classify import ScoreOptions
from clipcite.wire.predictions import ANSWER_EXAMPLE, RESULT_EXAMPLE, Classification

MAX_COLLECTION_IMAGES = 20_000


class CollectionJson(ScoreOptions):
    """Body of POST /classify/collection."""

    features: list[str] = Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_COLLECTION_IMAGES,
        description="`features` of each image, as `POST /classify` returned them for the same `model` and "
        "`alpha`. Several requests give the features of one collection.",
    )


COLLECTION_EXAMPLE: JsonDict = {
    **ANSWER_EXAMPLE,
    "results": [{**RESULT_EXAMPLE, "file": None}],
    "method": "image_by_image",
    "reason": "'hedgehog' is a new class. A collection helps only among trained classes.",
}


class CollectionAnswer(Classification):
    """Response to a request with the features of a collection. Results have no `file`."""

    model_config = ConfigDict(json_schema_extra={"examples": [COLLECTION_EXAMPLE]})

    method: Open[Literal["self_training", "image_by_image"]] = Field(
        description="`self_training` if the surer images joined the training images of their predicted class."
    )
    reason: str = Field(description="Reason for the method, for a person.")
