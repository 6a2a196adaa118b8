"""The `config` field of POST /adapt."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sentences = Annotated[list[str], Field(min_length=1, max_length=100)]


class ConfigIn(BaseModel):
    """Every field may be left out: it then comes from the backbone's recipe. The job echoes what
    was used, and what it echoes can be sent again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    backbone: Annotated[str, Field(max_length=500)] | None = None
    epochs: int | None = None
    batch_size: int | None = None
    images_at_once: int | None = None
    learning_rate: float | None = None
    text_learning_rate: float | None = None
    classifier_learning_rate: float | None = None
    weight_decay: float | None = None
    scl_weight: float | None = None
    vld_weight: float | None = None
    alpha: float | None = None
    templates: Sentences | None = None
    texts: dict[str, Sentences] | None = None
    image_size: int | None = None
    crop_scale: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    seed: int | None = None
    holdout: float | None = None
    evaluate: Literal["auto", "none"] | None = None
    weights: Literal["full", "4bit", "1bit"] | None = None
