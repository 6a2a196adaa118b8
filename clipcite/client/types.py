"""What the service answers with, as frozen dataclasses.

Fields that a newer service has beside these are in `raw`, the answer as it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Verdict = Literal["better", "no_clear_gain", "worse", "not_measured"]
Kind = Literal["trained", "new"]
FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Notice:
    """A warning: nothing was refused, but somebody should know."""

    code: str
    detail: str


@dataclass(frozen=True)
class ClassCount:
    name: str
    images: int
    test_images: int = 0


@dataclass(frozen=True)
class Loss:
    """The three losses of CLIP-CITE, unweighted, and their weighted sum."""

    total: float
    dva: float
    scl: float
    vld: float


@dataclass(frozen=True)
class Progress:
    """How far the run of a job is. Times in seconds."""

    stage: str
    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    fraction: float = 0.0
    """0 to 1."""
    eta_seconds: float | None = None
    images_per_second: float | None = None
    loss: Loss | None = None


@dataclass(frozen=True)
class Interval:
    """A difference with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """Accuracies (0 to 1) of the stock and the adapted network on the same images."""

    stock: float
    adapted: float
    difference: Interval | None = None


@dataclass(frozen=True)
class AllNames:
    """With every name allowed: on images of trained names, of new ones, and on all."""

    trained: Compared | None = None
    new: Compared | None = None
    all: Compared | None = None


@dataclass(frozen=True)
class MeasuredOn:
    source: str
    """`test`, `holdout`, or `none`: then nothing was measured."""
    images: int
    trained_images: int


@dataclass(frozen=True)
class Metrics:
    measured_on: MeasuredOn
    verdict: Verdict
    trained_classes: Compared | None = None
    new_classes: Compared | None = None
    all_classes: AllNames | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Job:
    """One adaptation."""

    id: str
    status: Status
    created_at: datetime
    name: str | None = None
    cancel_requested: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """The settings that it runs with, resolved."""
    classes: list[ClassCount] = field(default_factory=list)
    queue_position: int | None = None
    attempts: int = 0
    progress: Progress | None = None
    model_id: str | None = None
    metrics: Metrics | None = None
    warnings: list[Notice] = field(default_factory=list)
    error: Notice | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        return self.status in FINAL


PROGRESS = "progress"
"""Type of the events that say only how far the job is."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `seq` grows."""

    seq: int
    at: datetime
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends_job(self) -> bool:
        return self.type in FINAL


@dataclass(frozen=True)
class Model:
    """An adapted network."""

    id: str
    backbone: str
    trained_classes: list[str]
    alpha: float
    bytes: int
    created_at: datetime
    job_id: str | None = None
    """None: it was imported."""
    name: str | None = None
    version: int | None = None
    """Of the models with this name."""
    aliases: list[str] = field(default_factory=list)
    delta_format: str = "full"
    templates: list[str] = field(default_factory=list)
    prompts: Mapping[str, list[str]] = field(default_factory=dict)
    metrics: Metrics | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Move:
    """Of an alias from one model to another: `promoted` or `rolled_back`."""

    revision: int
    action: str
    model: str
    version: int
    at: datetime


@dataclass(frozen=True)
class Alias:
    """A name such as `shoes@prod` for one of the models called `shoes`."""

    reference: str
    name: str
    alias: str
    model: str
    """The id of the model that it points to."""
    version: int
    revision: int
    history: list[Move] = field(default_factory=list)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Prediction:
    class_name: str
    kind: Kind
    probability: float
    """The softmax over the names that were given: it says nothing about names that were not."""
    similarity: float
    """The cosine between the image and the name's prompts."""


@dataclass(frozen=True)
class ImageResult:
    """The ranked names for one image, the best first; or why it could not be used."""

    file: str | None
    predictions: list[Prediction] = field(default_factory=list)
    error: Notice | None = None
    prediction_set: list[str] | None = None
    """With `coverage`: the set that holds the true name."""
    in_distribution_score: float | None = None
    """Where the model knows its confidence: how much it looks like the nearest of the trained classes."""
    rejected: bool | None = None
    """With `reject`: it looks like none of the names."""

    @property
    def best(self) -> Prediction | None:
        return self.predictions[0] if self.predictions else None


@dataclass(frozen=True)
class ClassInfo:
    name: str
    kind: Kind
    offset: float = 0.0


@dataclass(frozen=True)
class Classification:
    model: str
    backbone: str
    alpha: float
    class_names: list[ClassInfo]
    results: list[ImageResult]
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: list[Notice] = field(default_factory=list)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Readiness:
    """`parts`: each part's status, and the reason where the caller may know it."""

    status: str
    parts: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.status != "unavailable"
