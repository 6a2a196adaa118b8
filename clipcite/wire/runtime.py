"""Memory and work of one process of the API."""

from typing import Literal

from pydantic import ConfigDict, Field

from clipcite.wire.base import ResponseModel


class Device(ResponseModel):
    name: str
    precision: str = Field(description="Precision of the networks: CLIPCITE_SERVING_PRECISION.")
    threads: int = Field(description="CPU threads of one forward pass that runs alone.")
    decoders: int = Field(description="Threads that decode images.")


class Backbone(ResponseModel):
    name: str
    image_size: int = Field(description="Side of the input square in pixels.")
    users: int = Field(description="Requests and models in memory that use this backbone.")


class Resident(ResponseModel):
    """Model or delta in memory."""

    kind: Literal["model", "delta"] = Field(
        description="`model`: a model at one alpha. `delta`: the stored difference from the backbone."
    )
    models: list[str] = Field(description="Ids of your requested models with this content.")
    others: int = Field(description="Number of other owners' models with this content.")
    backbone: str
    alpha: float | None = Field(description="Mixing weight; null for a delta.")
    bytes: int
    users: int = Field(description="Requests that are using this entry.")
    pinned: bool = Field(description="True if the entry is never evicted.")


class Counts(ResponseModel):
    """Statistics of a cache. `values`, `bytes` and `in_use` are current; the others count since the start."""

    model_config = ConfigDict(from_attributes=True)

    values: int = Field(description="Entries in memory.")
    bytes: int = Field(description="Memory of the entries.")
    in_use: int = Field(description="Entries that requests are using.")
    hits: int
    misses: int
    loads: int = Field(description="Loaded entries; fewer than `misses` when requests share a load.")
    load_seconds: float = Field(description="Time spent loading.")
    evicted: int = Field(description="Entries evicted to make room.")


class Models(ResponseModel):
    """Models and deltas in memory, which share one budget."""

    budget_bytes: int = Field(description="CLIPCITE_MODEL_CACHE_BYTES.")
    bytes: int = Field(
        description="Memory of all entries, loads in progress included. It exceeds the budget only while "
        "entries in use need more."
    )
    models: Counts = Field(description="Models, each at one alpha.")
    deltas: Counts
    unavailable: int = Field(description="Models whose files are missing or damaged.")
    resident: list[Resident] = Field(description="All entries, the least recently used first.")


class TextFeatures(ResponseModel):
    """Cache of text features and classifier weights."""

    budget_bytes: int
    bytes: int
    rows: int = Field(description="Cached pairs of class name and model.")
    classifiers: int = Field(description="Cached classifier weights, each for one list of class names.")
    hits: int = Field(description="Requests whose class names were all cached.")
    misses: int = Field(description="Requests with class names that were not cached.")
    encoded: int = Field(description="Class names encoded by a text tower.")
    evicted: int = Field(description="Entries evicted to make room.")


class Previews(Counts):
    """Cache of instant previews."""

    budget_bytes: int


class Queue(ResponseModel):
    """Requests of POST /classify in progress."""

    max_images: int = Field(description="Maximum number of images of requests in progress.")
    images: int = Field(description="Images of the requests in progress.")
    refused: int = Field(description="Requests rejected with 503 by load shedding, since the start.")
    waiting_images: int = Field(description="Decoded images that wait for a batch.")
    waiting_prompts: int = Field(description="Prompts that wait for a batch.")


class Batches(ResponseModel):
    """Batches since the start."""

    max_batch_images: int = Field(description="Maximum number of images per batch.")
    max_batch_prompts: int = Field(description="Maximum number of prompts per batch.")
    batches: int = Field(description="Image batches.")
    images: int = Field(description="Images in those batches.")
    prompt_batches: int = Field(description="Prompt batches.")
    prompts: int = Field(description="Prompts in those batches.")
    sizes: dict[int, int] = Field(
        description="Number of image batches by size: key K counts batches of K/2 + 1 to K images."
    )
    busy_seconds: float = Field(description="Computing time, summed over threads.")


class Runtime(ResponseModel):
    device: Device
    max_backbones: int = Field(
        description="Maximum number of backbones in memory. Backbones of models in memory come on top."
    )
    backbones: list[Backbone]
    models: Models
    prompts: TextFeatures
    previews: Previews
    queue: Queue
    batches: Batches
