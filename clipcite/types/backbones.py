"""Pre-trained models of the service."""

from typing import Literal

from pydantic import Field

from clipcite.types.base import Open, RequestModel, ResponseModel

BackboneState = Literal["available", "downloading", "checking", "installed", "failed"]


class DownloadProgress(ResponseModel):
    done_bytes: int
    total_bytes: int = Field(description="0 until it is known.")


class BackboneRow(ResponseModel):
    """Pre-trained model from which a job can start."""

    name: str
    title: str = Field(description="Name for people.")
    license: str | None = Field(description="Licence of the weights; null if unknown.")
    state: Open[BackboneState] = Field(
        description="`available`: can be downloaded. `downloading` includes the wait for another download."
    )
    default: bool = Field(description="True for the default backbone of jobs.")
    recommended: bool = Field(description="True for the best backbone that fits this machine.")
    bytes: int | None = Field(description="Size of the files; null if unknown.")
    serving_bytes: int | None = Field(
        description="Memory for classifying with it and one trained model; null if unknown."
    )
    training_bytes: int | None = Field(description="Memory of a training in fp32; null if unknown.")
    seconds_per_100_images: float | None = Field(
        description="Rough time of a job with 100 images and an evaluation; null if unknown."
    )
    seconds_measured: bool = Field(
        False, description="True if the time rests on a speed test on this machine, else it is a guess."
    )
    progress: DownloadProgress | None = Field(description="Progress of the download, else null.")
    error: str | None = Field(description="Reason why the download failed, else null.")


class BackboneList(ResponseModel):
    object: Literal["list"] = "list"
    data: list[BackboneRow] = Field(description="Installed, described and requested backbones.")
    recommendation: str = Field(description="Reason for the recommendation, or for the lack of one.")
    fixed: bool = Field(
        description="True if this caller can't choose: CLIPCITE_BACKBONE sets the default, or the key is not "
        "the operator's."
    )


class DefaultBackbone(RequestModel):
    name: str = Field(max_length=200, description="Name of an installed backbone, or `starter`.")
