"""Response schemas of the images of a job."""

from typing import Literal

from pydantic import BaseModel, Field


class JobImage(BaseModel):
    """Uploaded image."""

    position: int = Field(
        description="Position in the upload, training images first. The report uses it too."
    )
    split: Literal["train", "test"]
    class_name: str = Field(description="Label of the image.")
    file_name: str


class JobImageList(BaseModel):
    data: list[JobImage]
