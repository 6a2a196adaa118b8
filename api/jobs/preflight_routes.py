"""What was said of a job's pictures and class names when they came in."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.deps import TheBlobs, TheDatabase, TheOwner
from api.jobs.routes import ClassCounts, Warning
from api.problems import responses
from core.store.errors import BlobNotFound, PreflightNotFound
from core.store.jobs import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"])

EXAMPLE: JsonDict = {
    "object": "preflight",
    "acceptable": True,
    "config": {"backbone": "starter", "epochs": 10, "alpha": 0.5},
    "classes": [
        {"name": "red fox", "images": 8, "test_images": 2},
        {"name": "badger", "images": 8, "test_images": 2},
    ],
    "pictures": 20,
    "good": 19,
    "findings": [
        {
            "file": "badger/7.jpg",
            "class_name": "badger",
            "split": "train",
            "code": "near_copy_in_two_classes",
            "detail": "The mirror image of 'red fox/2.jpg' of the class 'red fox': one of the two labels "
            "must be wrong.",
            "other": "red fox/2.jpg",
        }
    ],
    "warnings": [],
    "estimate": {
        "seconds": 9.3,
        "low_seconds": 6.7,
        "high_seconds": 14.6,
        "memory_bytes": 2540000000,
        "basis": "From 1 job of this backbone and image size on this service.",
    },
}


class FindingOut(BaseModel):
    file: str
    class_name: str | None = Field(description="null where the picture can't be read.")
    split: Literal["train", "test"] | None
    code: str
    detail: str
    other: str | None = Field(description="The file of which it is a copy.")


class EstimateOut(BaseModel):
    seconds: float | None = Field(description="Without the time in the queue; null: nothing is known.")
    low_seconds: float | None
    high_seconds: float | None
    memory_bytes: int | None
    basis: str = Field(description="What it was made from.")


class PreflightOut(BaseModel):
    """Pictures that no finding names are good."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    object: Literal["preflight"] = "preflight"
    acceptable: bool = Field(
        description="False: POST /adapt would refuse the upload for the pictures that can't be read."
    )
    config: dict[str, Any]
    classes: list[ClassCounts]
    pictures: int
    good: int
    findings: list[FindingOut]
    warnings: list[Warning]
    estimate: EstimateOut


@router.get("/{job_id}/preflight", responses=responses(401, 404, 422, 503))
def get_preflight(database: TheDatabase, blobs: TheBlobs, owner: TheOwner, job_id: str) -> PreflightOut:
    """What was found in the job's pictures, one by one, and what it was expected to take."""
    with database.read() as session:
        job = jobs.get(session, job_id, owner=owner)
    try:
        return PreflightOut.model_validate_json(blobs.get(jobs.preflight_of(job.id)))
    except BlobNotFound as error:
        raise PreflightNotFound(job.id) from error
