"""The report of a job as the API shows it: `core.clip.evaluation.report.Report` as it was stored, and
names of files."""

from typing import Literal

from pydantic import BaseModel


class IntervalOut(BaseModel):
    """With its 95 % interval."""

    value: float
    low: float
    high: float


class AccuraciesOut(BaseModel):
    """Of the same pictures with the same candidates. `adapted` is null where only previews were measured."""

    images: int
    names: int
    stock: IntervalOut
    preview: IntervalOut
    adapted: IntervalOut | None
    preview_against_stock: IntervalOut
    adapted_against_stock: IntervalOut | None
    adapted_against_preview: IntervalOut | None


class AdviceOut(BaseModel):
    code: Literal["use_it", "stay_with_stock", "use_preview", "add_pictures", "look_at_pictures", "measure"]
    detail: str
    class_names: list[str]


class ReportMeasuredOn(BaseModel):
    source: Literal["test", "holdout", "sibling", "preview"]
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


class PictureReport(BaseModel):
    position: int
    """Place of the picture in the upload, training pictures first."""
    file_name: str | None = None
    class_name: str
    answered: str
    probability: float


class BinOut(BaseModel):
    low: float
    high: float
    pictures: int
    confidence: float
    accuracy: float


class CalibrationOut(BaseModel):
    calibrated: bool
    temperature: float | None
    error_before: float | None
    error_after: float | None
    bins: list[BinOut]


class CurvePointOut(BaseModel):
    alpha: float
    trained_names: float | None
    all_names: float | None
    new_names: float | None
    text_similarity: float


class Seconds(BaseModel):
    training: float
    report: float


class ReportOut(BaseModel):
    """What an adaptation has brought, measured on pictures that the network which answered was not
    trained on. Intervals are at 95 %; differences are paired by picture."""

    object: Literal["report"] = "report"
    job_id: str
    model_id: str
    verdict: Literal["better", "no_clear_gain", "worse", "not_measured"]
    headline: str
    brier_gain: IntervalOut | None = None
    """Of the Brier score of the probabilities (0 to 2, less is better): stock − adapted."""
    advice: list[AdviceOut]
    measured_on: ReportMeasuredOn
    alpha: float
    trained_names: AccuraciesOut | None
    all_names: AccuraciesOut | None
    new_names: AccuraciesOut | None
    other_names: list[str]
    classes: list[ClassReport]
    confusion: list[list[int]] | None
    mistakes: list[PictureReport]
    suspects: list[PictureReport]
    calibration: CalibrationOut
    curve: list[CurvePointOut]
    seconds: Seconds
