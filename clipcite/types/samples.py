"""Sample images for a first training."""

from typing import Literal

from pydantic import Field

from clipcite.types.base import ResponseModel


class Sample(ResponseModel):
    """Labelled images for a first training."""

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
