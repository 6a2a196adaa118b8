"""What the service says about images before a training and about a model after it, as frozen dataclasses.

Fields that are not here are in `raw`, the answer as it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipcite.client.types import ClassCount, Interval, Notice, Verdict


@dataclass(frozen=True)
class Finding:
    """Something odd about one image."""

    file: str
    code: str
    detail: str
    class_name: str | None = None
    split: str | None = None
    other: str | None = None
    """The file of which it is a copy."""


@dataclass(frozen=True)
class Estimate:
    """What the training will take, without the time in the queue; None where nothing is known."""

    basis: str = ""
    seconds: float | None = None
    low_seconds: float | None = None
    high_seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Preflight:
    """What was found in images and names. Images that no finding names are good."""

    acceptable: bool
    """False: `adapt` would refuse the upload."""
    images: int
    good: int
    config: Mapping[str, Any] = field(default_factory=dict)
    classes: list[ClassCount] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    estimate: Estimate = field(default_factory=Estimate)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Recommendation:
    code: str
    detail: str
    class_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReportedOn:
    source: str
    images: int
    trained_images: int
    how: str = ""


@dataclass(frozen=True)
class Accuracies:
    """Shares (0 to 1) of the same images that are named rightly, with 95 % intervals. `adapted` is None
    where only classifiers without training could be measured."""

    images: int
    candidates: int
    stock: Interval
    preview: Interval | None = None
    adapted: Interval | None = None
    adapted_against_stock: Interval | None = None


@dataclass(frozen=True)
class ClassReport:
    name: str
    trained_images: int
    images: int
    recall: float | None = None
    precision: float | None = None
    stock_recall: float | None = None


@dataclass(frozen=True)
class ReportedImage:
    """A training image whose label may be wrong, or an image that was answered wrongly."""

    position: int
    class_name: str
    predicted: str
    probability: float
    file_name: str | None = None


@dataclass(frozen=True)
class Reliability:
    calibrated: bool
    temperature: float | None = None
    error_before: float | None = None
    error_after: float | None = None


@dataclass(frozen=True)
class Report:
    """Whether to trust a model."""

    job_id: str
    model_id: str
    verdict: Verdict
    summary: str
    measured_on: ReportedOn
    alpha: float
    brier_gain: Interval | None = None
    """Of the Brier score of the probabilities (0 to 2, less is better): stock − adapted."""
    recommendations: list[Recommendation] = field(default_factory=list)
    trained_classes: Accuracies | None = None
    all_classes: Accuracies | None = None
    new_classes: Accuracies | None = None
    classes: list[ClassReport] = field(default_factory=list)
    label_issues: list[ReportedImage] = field(default_factory=list)
    mistakes: list[ReportedImage] = field(default_factory=list)
    calibration: Reliability | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
