"""The report of a job as the API shows it: `core.clip.evaluation.report.Report` as it was stored, and
names of files."""

from typing import Literal

from pydantic import BaseModel


class Interval(BaseModel):
    """With its 95 % interval."""

    value: float
    low: float
    high: float


class Accuracies(BaseModel):
    """Of the same images with the same candidates. `adapted` is null where only previews were measured."""

    images: int
    candidates: int
    stock: Interval
    preview: Interval
    adapted: Interval | None
    preview_against_stock: Interval
    adapted_against_stock: Interval | None
    adapted_against_preview: Interval | None


class Recommendation(BaseModel):
    code: Literal["use_it", "stay_with_stock", "use_preview", "add_images", "check_images", "evaluate"]
    detail: str
    class_names: list[str]


class ReportMeasuredOn(BaseModel):
    source: Literal["test", "holdout", "cross_validation", "preview"]
    images: int
    trained_images: int
    how: str


class ClassReport(BaseModel):
    name: str
    trained_images: int
    images: int
    recall: float | None
    precision: float | None
    stock_recall: float | None


class ImageReport(BaseModel):
    position: int
    """Place of the image in the upload, training images first."""
    file_name: str | None = None
    class_name: str
    predicted: str
    probability: float


class Bin(BaseModel):
    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


class Reliability(BaseModel):
    calibrated: bool
    temperature: float | None
    error_before: float | None
    error_after: float | None
    bins: list[Bin]


class CurvePoint(BaseModel):
    alpha: float
    trained_classes: float | None
    all_classes: float | None
    new_classes: float | None
    text_similarity: float


class Seconds(BaseModel):
    training: float
    report: float


class Report(BaseModel):
    """What an adaptation has brought, measured on images that the network which answered was not
    trained on. Intervals are at 95 %; differences are paired by image."""

    object: Literal["report"] = "report"
    job_id: str
    model_id: str
    verdict: Literal["better", "no_clear_gain", "worse", "not_measured"]
    summary: str
    brier_gain: Interval | None = None
    """Of the Brier score of the probabilities (0 to 2, less is better): stock − adapted."""
    recommendations: list[Recommendation]
    measured_on: ReportMeasuredOn
    alpha: float
    trained_classes: Accuracies | None
    all_classes: Accuracies | None
    new_classes: Accuracies | None
    distractor_classes: list[str]
    classes: list[ClassReport]
    confusion: list[list[int]] | None
    mistakes: list[ImageReport]
    label_issues: list[ImageReport]
    calibration: Reliability
    curve: list[CurvePoint]
    seconds: Seconds
