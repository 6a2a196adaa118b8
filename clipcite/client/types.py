"""Responses of the service, as dataclasses.

The attribute `raw`, where there is one, holds the JSON as received, including fields of a newer service.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["preparing", "training", "publishing", "evaluating"]
Until = Literal["model", "end"]
Verdict = Literal[
    "better", "probably_better", "no_clear_gain", "probably_worse", "worse", "evaluating", "not_evaluated"
]
Kind = Literal["trained", "new"]
Rule = Literal["closed", "mixed", "untrained"]
FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Notice:
    """Code and text of a warning or an error."""

    code: str
    detail: str


@dataclass(frozen=True)
class ClassCount:
    """Number of images of one class."""

    name: str
    images: int
    test_images: int = 0


@dataclass(frozen=True)
class Loss:
    """The three losses of CLIP-CITE, unweighted, and their weighted sum `total`."""

    total: float
    dva: float
    scl: float
    vld: float


@dataclass(frozen=True)
class Progress:
    """Progress of a running job."""

    stage: Stage
    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    fraction: float = 0.0
    """Fraction of all the work done, 0 to 1. It never falls within an attempt."""
    eta_seconds: float | None = None
    """Time until the job ends; None if unknown. It never rises within an attempt."""
    model_eta_seconds: float | None = None
    """Time until the model is usable; None if unknown, or once the job has a `model_id`."""
    images_per_second: float | None = None
    loss: Loss | None = None


@dataclass(frozen=True)
class Interval:
    """A value with its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Accuracies (0 to 1) of the stock and the adapted model on the same images."""

    stock: float
    adapted: float
    difference: Interval | None = None


@dataclass(frozen=True)
class AllClasses:
    """Accuracies with all classes as candidates: on images of trained classes, of new classes, of both."""

    trained: Comparison | None = None
    new: Comparison | None = None
    all: Comparison | None = None


@dataclass(frozen=True)
class MeasuredOn:
    """Images that the accuracies were measured on."""

    source: str
    """`test`, `holdout`, `cross_validation`, or `none` if nothing was measured."""
    images: int
    trained_images: int


@dataclass(frozen=True)
class Metrics:
    """Accuracies of a model."""

    measured_on: MeasuredOn
    verdict: Verdict
    trained_classes: Comparison | None = None
    new_classes: Comparison | None = None
    all_classes: AllClasses | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass
class JobData:
    """Fields of a training job, as last fetched."""

    id: str
    status: Status
    created_at: datetime
    name: str | None = None
    cancel_requested: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the job, defaults included."""
    classes: list[ClassCount] = field(default_factory=list)
    queue_position: int | None = None
    attempts: int = 0
    progress: Progress | None = None
    model_id: str | None = None
    metrics: Metrics | None = None
    warnings: list[Notice] = field(default_factory=list)
    error: Notice | None = None
    request_id: str | None = None
    """Id of the request that created the job, as in the service's log."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def finished(self) -> bool:
        """True if the job has succeeded, failed or been cancelled."""
        return self.status in FINAL

    def reached(self, until: Until) -> bool:
        """Return whether the job has a model, with `until` "model", or has ended."""
        return self.finished or (until == "model" and self.model_id is not None)


@dataclass(frozen=True)
class WebhookDelivery:
    """Delivery of one message to the webhook of a job."""

    id: str
    type: str
    """Type of the message, such as `job.succeeded`."""
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    created_at: datetime
    finished_at: datetime | None = None
    next_attempt_at: datetime | None = None
    response_status: int | None = None
    reason: str | None = None
    """Reason why the last attempt failed."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


PROGRESS = "progress"
"""Type of the events that carry a `Progress`."""


@dataclass(frozen=True)
class Event:
    """One event of a job; `seq` increases."""

    seq: int
    at: datetime
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends_job(self) -> bool:
        return self.type in FINAL


@dataclass
class ModelData:
    """Fields of an adapted model, as last fetched."""

    id: str
    backbone: str
    trained_classes: list[str]
    alpha: float
    bytes: int
    created_at: datetime
    job_id: str | None = None
    """None for an imported model."""
    name: str | None = None
    version: int | None = None
    """Version number among the models with the same name."""
    aliases: list[str] = field(default_factory=list)
    delta_format: str = "full"
    templates: list[str] = field(default_factory=list)
    prompts: Mapping[str, list[str]] = field(default_factory=dict)
    metrics: Metrics | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class AliasMove:
    """One entry in the history of an alias; `action` is `promoted` or `rolled_back`."""

    revision: int
    action: str
    model: str
    version: int
    at: datetime


@dataclass(frozen=True)
class Alias:
    """A reference such as `shoes@prod` to one version of the model `shoes`."""

    reference: str
    name: str
    alias: str
    model: str
    """Id of the model that the alias points to."""
    version: int
    revision: int
    history: list[AliasMove] = field(default_factory=list)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Prediction:
    """One class with its score for an image."""

    class_name: str
    kind: Kind
    probability: float
    """Softmax over the requested class names only."""
    similarity: float
    """Cosine similarity between the image and the prompts of the class."""


@dataclass(frozen=True)
class ImageResult:
    """The predictions for one image, most likely class first, or an error."""

    file: str | None
    """Path as passed to `classify`; a name such as `image-2.png` for an image without a file."""
    predictions: list[Prediction] = field(default_factory=list)
    error: Notice | None = None
    prediction_set: list[str] | None = None
    """With `coverage`: a set of classes that contains the true class with that probability."""
    in_distribution_score: float | None = None
    """Similarity of the image to the nearest trained class; None for a model without calibration."""
    rejected: bool | None = None
    """With `reject`: True if the image resembles none of the classes."""

    @property
    def best(self) -> Prediction | None:
        """The most likely class; None after an error."""
        return self.predictions[0] if self.predictions else None


@dataclass(frozen=True)
class ClassInfo:
    """A class of a classification request."""

    name: str
    kind: Kind
    offset: float = 0.0


@dataclass(frozen=True)
class Classification:
    """The result of `classify`, one entry of `results` per image, in order."""

    model: str
    backbone: str
    alpha: float
    class_names: list[ClassInfo]
    results: list[ImageResult]
    rule: Rule | None = None
    """Scoring rule that was used; None from an older service."""
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: list[Notice] = field(default_factory=list)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Readiness:
    """Readiness of the service.

    `parts` maps each part to its status and, for callers with access, the reason.
    """

    status: str
    parts: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    version: str = ""
    backbone: str = ""
    """Default backbone."""
    device: str = ""

    @property
    def ready(self) -> bool:
        return self.status != "unavailable"
