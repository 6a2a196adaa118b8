"""Preflight of images and report on a model, as dataclasses.

The attribute `raw` holds the JSON as received, including fields that have no attribute here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipcite.client.types import ClassCount, Interval, Notice, Verdict


@dataclass(frozen=True)
class Finding:
    """A problem with one image."""

    file: str
    code: str
    detail: str
    class_name: str | None = None
    split: str | None = None
    other: str | None = None
    """The other file of a pair of duplicates."""


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of the training, without the time in the queue; None: unknown."""

    basis: str = ""
    seconds: float | None = None
    low_seconds: float | None = None
    high_seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Preflight:
    """Result of a check of images and class names."""

    acceptable: bool
    """False: `adapt` would reject the upload."""
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
    """A recommended next step."""

    code: str
    detail: str
    class_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReportMeasuredOn:
    """Images that the report is based on."""

    source: str
    images: int
    trained_images: int
    how: str = ""


@dataclass(frozen=True)
class Accuracies:
    """Accuracies (0 to 1) on the same images, with 95% confidence intervals.

    `adapted` is None if only classifiers without training could be measured.
    """

    images: int
    candidates: int
    stock: Interval
    preview: Interval | None = None
    adapted: Interval | None = None
    adapted_against_stock: Interval | None = None


@dataclass(frozen=True)
class ClassReport:
    """Recall and precision (0 to 1) of one class."""

    name: str
    trained_images: int
    images: int
    recall: float | None = None
    precision: float | None = None
    stock_recall: float | None = None


@dataclass(frozen=True)
class ReportedImage:
    """A label issue or a misclassified image."""

    position: int
    class_name: str
    predicted: str
    probability: float
    file_name: str | None = None


@dataclass(frozen=True)
class ChangedImage:
    """An image that exactly one of the pre-trained and the adapted model classifies correctly."""

    position: int
    class_name: str
    before: str
    """Class predicted by the pre-trained model."""
    predicted: str
    """Class predicted by the adapted model."""
    probability: float
    file_name: str | None = None


@dataclass(frozen=True)
class Reliability:
    """Calibration of the probabilities, with the expected calibration error before and after."""

    calibrated: bool
    temperature: float | None = None
    error_before: float | None = None
    error_after: float | None = None


@dataclass(frozen=True)
class Report:
    """Evaluation of a model against the stock model."""

    job_id: str
    model_id: str
    verdict: Verdict
    summary: str
    measured_on: ReportMeasuredOn
    alpha: float
    p: float | None = None
    """One-sided p of the signed-rank test behind the verdict, in the direction of the change."""
    more_certain: int | None = None
    """Number of images on which the adapted model is nearer to the true class."""
    recommendations: list[Recommendation] = field(default_factory=list)
    overall: Accuracies | None = None
    """Accuracies behind the verdict."""
    trained_classes: Accuracies | None = None
    all_classes: Accuracies | None = None
    new_classes: Accuracies | None = None
    classes: list[ClassReport] = field(default_factory=list)
    label_issues: list[ReportedImage] = field(default_factory=list)
    fixed: list[ChangedImage] = field(default_factory=list)
    """Images that the stock model got wrong and the adapted model gets right."""
    broken: list[ChangedImage] = field(default_factory=list)
    """Images that the stock model got right and the adapted model gets wrong."""
    mistakes: list[ReportedImage] = field(default_factory=list)
    calibration: Reliability | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
