"""Health and runtime as the API shows them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.serving.pool.cache_stats import CacheStats

Part = Literal["ok", "degraded", "unavailable"]


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class PartReadiness(BaseModel):
    status: Part
    reason: str | None = None


class Readiness(BaseModel):
    status: Part
    parts: dict[str, PartReadiness]


class Device(BaseModel):
    name: str
    precision: str | None = Field(description="Of the default backbone; null until it is loaded.")
    threads: int = Field(description="Of one pass through a network on a CPU, if it is alone.")
    decoders: int = Field(description="Threads that decode images meanwhile.")


class Backbone(BaseModel):
    name: str
    image_size: int
    users: int = Field(description="Requests and warm models.")


class Resident(BaseModel):
    kind: Literal["network", "delta"] = Field(
        description="A network at one alpha, or what a model changes of its backbone, as it is stored."
    )
    models: list[str] = Field(
        description="Your models that have this content, as far as they were asked for."
    )
    others: int = Field(description="Models of other owners that have it.")
    backbone: str
    alpha: float | None = Field(description="Null for a delta.")
    bytes: int
    users: int = Field(description="Requests that hold it now.")
    pinned: bool


class Counts(BaseModel):
    """`values`, `bytes` and `in_use` are those of now, the others since the start."""

    model_config = ConfigDict(from_attributes=True)

    values: int
    bytes: int
    in_use: int
    hits: int
    misses: int
    loads: int = Field(description="Fewer than misses when several wait for one.")
    load_seconds: float
    evicted: int = Field(description="For want of room.")

    @classmethod
    def of(cls, counts: CacheStats) -> "Counts":
        return cls.model_validate(counts)


class Models(BaseModel):
    """Networks and deltas under one budget, the least recently used first."""

    budget_bytes: int
    bytes: int = Field(description="With what is being loaded. Above the budget only if so much is in use.")
    networks: Counts
    deltas: Counts
    unavailable: int = Field(description="Models whose files are missing or damaged.")
    resident: list[Resident]


class TextFeatures(BaseModel):
    budget_bytes: int
    bytes: int
    rows: int = Field(description="Class names with some network.")
    heads: int = Field(description="Lists of them.")
    hits: int
    misses: int
    encoded: int = Field(description="Class names that went through a network.")
    evicted: int


class Previews(Counts):
    budget_bytes: int


class Queue(BaseModel):
    max_images: int = Field(description="CLIPCITE_MAX_WAITING_IMAGES.")
    images: int = Field(description="Of the requests that were let in and have no answer yet.")
    refused: int = Field(description="Requests since the start that were told to come again.")
    waiting_images: int = Field(description="Decoded, and not yet in a batch.")
    waiting_prompts: int


class Batches(BaseModel):
    max_batch_images: int
    largest_texts: int
    batches: int = Field(description="Of images.")
    images: int
    text_batches: int
    prompts: int
    sizes: dict[int, int] = Field(
        description="Batches by their number of images: at most the key, more than half of it."
    )
    busy_seconds: float = Field(description="In which a network was at work, of all threads together.")


class Runtime(BaseModel):
    device: Device
    max_backbones: int = Field(description="So many are kept, and those of warm models.")
    backbones: list[Backbone]
    models: Models
    prompts: TextFeatures
    previews: Previews
    queue: Queue
    batches: Batches
