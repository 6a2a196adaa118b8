"""Sample images for a first training."""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from clipcite.wire.base import ResponseModel

SAMPLE_EXAMPLE: JsonDict = {
    "name": "parts",
    "title": "Drawn metal parts",
    "classes": ["washer", "nut", "gear", "bracket", "spring"],
    "new_classes": ["screw"],
    "images": 144,
    "license": "Apache-2.0",
    "credit": "Drawn by clipcite.",
    "default": False,
}


class Sample(ResponseModel):
    """Labelled images for a first training."""

    model_config = ConfigDict(json_schema_extra={"examples": [SAMPLE_EXAMPLE]})

    name: str
    title: str
    classes: list[str] = Field(description="Classes with training images and test images.")
    new_classes: list[str] = Field(description="Classes with test images only.")
    images: int = Field(description="Number of images.")
    license: str = Field(description="Licence of the images.")
    credit: str = Field(description="Author and source, to be shown with the images.")
    default: bool = Field(description="True for the recommended sample.")


class SampleList(ResponseModel):
    object: Literal["list"] = "list"
    data: list[Sample] = Field(description="Available samples, the recommended one first.")
