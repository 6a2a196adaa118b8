"""The `config` field of POST /adapt."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.class_names import RawName, Sentence
from api.request_model import RequestModel
from core.clip.prompts import MAX_TEMPLATES

MAX_CLASSES = 10_000
Sentences = Annotated[list[Sentence], Field(fail_fast=True, min_length=1, max_length=MAX_TEMPLATES)]


def _fail_fast(value: Any) -> Any:
    """Pydantic looks at all entries before it counts them, and has an error for each that is bad."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_CLASSES:
        raise PydanticCustomError(
            "too_long",
            "There are texts for {count} classes; give them for at most {most}",
            {"count": len(value), "most": MAX_CLASSES},
        )
    for name, sentences in value.items():
        some = isinstance(sentences, list) and 1 <= len(sentences) <= MAX_TEMPLATES
        if not some or not all(isinstance(sentence, str) for sentence in sentences):
            return {name: sentences}
    return value


Texts = Annotated[dict[RawName, Sentences], Field(max_length=MAX_CLASSES), BeforeValidator(_fail_fast)]
"""Own sentences of classes."""


class ConfigIn(RequestModel):
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
    texts: Texts | None = None
    image_size: int | None = None
    crop_scale: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    seed: int | None = None
    holdout: float | None = None
    evaluate: Literal["auto", "none"] | None = None
    weights: Literal["full", "4bit", "1bit"] | None = None
