"""Requests for a training: settings, corrections of labels, and the checks before it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from clipcite.types.base import (
    MAX_CLASSES,
    MAX_IMAGES,
    MAX_TEMPLATES,
    Open,
    RawName,
    RequestModel,
    Resource,
    ResponseModel,
    Sentence,
)
from clipcite.types.folders import Split
from clipcite.types.jobs import ClassCounts
from clipcite.types.problems import Notice

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 1_024
"""Bounds of the input side of a network (pixels)."""
Sentences = Annotated[list[Sentence], Field(fail_fast=True, min_length=1, max_length=MAX_TEMPLATES)]


def _fail_fast(value: Any) -> Any:
    """Reject large or invalid prompts early, because pydantic checks all entries and reports each error."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_CLASSES:
        raise PydanticCustomError(
            "too_long",
            "There are prompts for {count} classes. Send them for at most {limit}",
            {"count": len(value), "limit": MAX_CLASSES},
        )
    for name, sentences in value.items():
        valid = isinstance(sentences, list) and 1 <= len(sentences) <= MAX_TEMPLATES
        if not valid or not all(isinstance(sentence, str) for sentence in sentences):
            return {name: sentences}
    return value


Precision = Literal["auto", "fp32", "bf16", "fp16"]
DeltaFormat = Literal["full", "4bit"]
Evaluate = Literal["auto", "none"]
STARTER = "starter"


@dataclass(frozen=True)
class Range:
    """Bounds of a setting, which `core.clip.config.check_settings` checks."""

    low: float
    high: float
    whole: bool = False


def _all_optional(schema: JsonDict) -> None:
    """Let each setting be null or missing, and state no default: it depends on the backbone."""
    properties = cast(dict[str, JsonDict], schema["properties"])
    for field in properties.values():
        kind = {key: field.pop(key) for key in field.keys() - {"title", "description", "default"}}
        field["anyOf"] = kind.get("anyOf", [kind, {"type": "null"}])
        field["default"] = None


class AdaptConfig(RequestModel):
    """Training settings. Missing fields come from the backbone's recipe.

    The job returns the resolved settings, which can be sent again.
    """

    # The defaults are the paper's for CLIP ViT-B/16 (section 4.1). The paper does not state weight decay,
    # crop scale and W's learning rate. This project chose these. `model_fields_set` has the given settings.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra=_all_optional,
    )

    backbone: Annotated[str, Field(max_length=500)] = Field(
        STARTER, description="Pre-trained model to start from."
    )
    # Each epoch is split into batches of equal size.
    epochs: Annotated[int, Range(1, 1_000, whole=True)] = Field(
        20,
        description="Training epochs, from 1 to 1,000. With at most 30 training images, the starter's "
        "default gives at least 30 steps.",
    )
    batch_size: Annotated[int, Range(2, 4_096, whole=True)] = Field(
        32, description="Maximum images per step, from 2 to 4,096."
    )
    micro_batch_size: Annotated[int | None, Range(1, 4_096, whole=True)] = Field(
        None,
        description="Number of images of a batch that are processed at once. A smaller number takes less "
        "memory and more time, with the same result. Default: the whole batch.",
    )
    # Cosine schedule. Ten times as much causes forgetting. A tenth changes almost nothing.
    learning_rate: Annotated[float, Range(0, 1)] = Field(
        5e-6, description="Peak learning rate of both towers."
    )
    text_learning_rate: Annotated[float | None, Range(0, 1)] = Field(
        None,
        description="Peak learning rate of the text tower; 0 freezes it. Default: `learning_rate`.",
    )
    # W starts as the text embeddings and is discarded, so it may move faster.
    classifier_learning_rate: Annotated[float, Range(0, 1)] = Field(
        5e-5, description="Peak learning rate of the classifier that is discarded after training."
    )
    # W is not decayed, because it is normalised at every use.
    weight_decay: Annotated[float, Range(0, 1)] = Field(
        0.01, description="AdamW's weight decay of the towers."
    )
    scl_weight: Annotated[float, Range(0, 100)] = Field(
        0.7, description="Weight λ of the contrastive loss (paper, eq. 6)."
    )
    vld_weight: Annotated[float, Range(0, 100)] = Field(
        0.1, description="Weight η of the distillation loss (paper, eq. 6)."
    )
    alpha: Annotated[float, Range(0, 1)] = Field(
        0.5, description="Mixing weight from 0 (stock) to 1 (fine-tuned), rounded to 0.01."
    )
    templates: Sentences = Field(
        ["a photo of a {}."], description="Prompt templates, each with `{}` for the class name."
    )
    prompts: Annotated[dict[RawName, Sentences], BeforeValidator(_fail_fast)] = Field(
        {}, max_length=MAX_CLASSES, description="Prompts by class name, used instead of the templates."
    )
    image_size: Annotated[int | None, Range(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE, whole=True)] = Field(
        None, description="Side of the input square in pixels, from 32 to 1,024. Default: the backbone's."
    )
    crop_scale: Annotated[float, Range(0.01, 1)] = Field(
        0.5, description="Minimum share of the image that a random crop covers, from 0.01 to 1."
    )
    precision: Precision = Field("auto", description="Number format of the training.")
    seed: Annotated[int, Range(0, 2**63 - 1, whole=True)] = Field(
        0, description="Seed of all random numbers."
    )
    # Without test images the report doubles the training time, because fold models are trained.
    evaluate: Evaluate = Field(
        "auto",
        description="`auto` creates a report, `none` skips the evaluation. Without test images, `auto` "
        "uses cross-validation, which takes about as long as the training.",
    )
    # Evaluation and serving use the stored weights. benchmarks/pages/ablations.md has the measurements.
    delta_format: DeltaFormat = Field(
        "4bit",
        description="Storage format of the trained weights: at full precision or quantised to 4 bits.",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_missing(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class Retraining(RequestModel):
    """Corrections of a job's images by their `position` (upload order, as in the report), and settings."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"moved": {"3": "badger"}, "removed": [7], "confirmed": [12]}]}
    )

    moved: dict[Annotated[int, Field(ge=0)], RawName] = Field(
        {}, max_length=MAX_IMAGES, description="Correct class name by position. New class names are allowed."
    )
    removed: list[Annotated[int, Field(ge=0)]] = Field(
        [], max_length=MAX_IMAGES, description="Positions of images to leave out."
    )
    confirmed: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        max_length=MAX_IMAGES,
        description="Positions of images with correct labels. They are no longer reported as label issues.",
    )
    config: AdaptConfig | None = Field(None, description="Settings to change. All others are the job's.")
    name: Annotated[str, Field(json_schema_extra={"maxLength": 200})] | None = Field(
        None, description="Name of the new job. Default: the job's."
    )


class LayoutJson(RequestModel):
    """Paths of files, without the files."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"paths": ["train/cat/1.jpg", "test/cat/2.jpg"]}]}
    )

    paths: list[str] = Field(fail_fast=True, description="Path of each file below a common folder, with `/`.")


class LayoutFolder(ResponseModel):
    """Files of a folder that have the same place."""

    folder: str = Field(description="Path of the folder; empty for files in no folder.")
    split: Open[Split] | None = Field(description="Null if the files are left out.")
    class_name: str | None = Field(description="Null if the files are left out.")
    left_out: Notice | None = Field(description="Why the files are left out.")
    files: int = Field(description="Number of these files.")


class Layout(Resource):
    """Split and class of files by their folders."""

    object: Literal["layout"] = "layout"
    folders: list[LayoutFolder]
    files: list[int] = Field(description="Position in `folders` of each path, in the order of the request.")


class Finding(ResponseModel):
    """Problem of an image."""

    file: str
    class_name: str | None = Field(None, description="Class of the image; null if the image can't be read.")
    split: Open[Literal["train", "test"]] | None
    code: str = Field(description="Machine-readable code of the problem.")
    detail: str = Field(description="Explanation for people.")
    other: str | None = Field(None, description="File that this image duplicates.")


class Estimate(ResponseModel):
    """Estimated cost of the job."""

    seconds: float | None = Field(None, description="Duration without the queue; null if unknown.")
    low_seconds: float | None = Field(None, description="Lower bound of the duration.")
    high_seconds: float | None = Field(None, description="Upper bound of the duration.")
    basis: str = Field(description="Origin of the estimate, for people.")
    memory_bytes: int | None = Field(None, description="Memory of the training in fp32; null if unknown.")


class Preflight(Resource):
    """Result of the checks before training. An image without a finding is good."""

    object: Literal["preflight"] = "preflight"
    acceptable: bool = Field(
        description="False if POST /adapt would reject the upload because of unreadable images."
    )
    config: dict[str, Any] = Field(description="Resolved training settings.")
    classes: list[ClassCounts]
    images: int = Field(description="Number of images, unreadable ones included.")
    good: int = Field(description="Number of images without a finding.")
    findings: list[Finding]
    warnings: list[Notice]
    estimate: Estimate
