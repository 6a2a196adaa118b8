"""The report of an adaptation: what was gained and lost, in words and in figures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from core.clip.evaluation.accuracy import Interval
from core.clip.evaluation.report_text import Advice
from core.clip.inference.calibration import Bin


@dataclass(frozen=True)
class Accuracies:
    """Of the same pictures with the same candidates. `adapted` is None where only previews were measured."""

    images: int
    names: int
    """Candidates."""
    stock: Interval
    preview: Interval
    adapted: Interval | None
    preview_against_stock: Interval
    adapted_against_stock: Interval | None
    adapted_against_preview: Interval | None


@dataclass(frozen=True)
class OfClass:
    name: str
    trained_images: int
    images: int
    """That were asked about."""
    recall: float | None
    """Share of its pictures that get its name; None without pictures."""
    precision: float | None
    """Share of the pictures with its name that are its own; None where no picture gets it."""
    stock_recall: float | None


@dataclass(frozen=True)
class Mistake:
    position: int
    """Place of the picture in the upload, training pictures first."""
    class_name: str
    answered: str
    probability: float


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be believed, with the trained names as candidates."""

    calibrated: bool
    """Whether there were pictures enough (30) to fit a temperature, which /classify then uses."""
    temperature: float | None
    error_before: float | None
    error_after: float | None
    """ECE; after: with the temperature of the other half of the pictures."""
    bins: tuple[Bin, ...]
    """As they are after, if calibrated."""


@dataclass(frozen=True)
class CurvePoint:
    alpha: float
    trained_names: float | None
    """Accuracy of the held-out pictures with the trained names as candidates."""
    all_names: float | None
    """The same with all names: new ones, or others from ImageNet."""
    new_names: float | None
    """Accuracy of pictures of new names with the new names as candidates."""
    text_similarity: float


@dataclass(frozen=True)
class Report:
    verdict: str
    headline: str
    brier_gain: Interval | None
    """By how much the adapted network's probabilities are nearer to the truth than stock's
    (`core.clip.evaluation.brier`); None below 30 pictures."""
    advice: tuple[Advice, ...]
    measured_on: Mapping[str, Any]
    alpha: float
    """At which the model is served by default, and was measured."""
    trained_names: Accuracies | None
    all_names: Accuracies | None
    """Pictures of trained classes, all names as candidates."""
    new_names: Accuracies | None
    other_names: tuple[str, ...]
    """The candidates that were not trained."""
    classes: tuple[OfClass, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    """Row: the true class, column: the answered one, in the order of `classes`."""
    mistakes: tuple[Mistake, ...]
    suspects: tuple[Mistake, ...]
    """Training pictures that look like another class to networks that have not seen them."""
    calibration: Calibration
    curve: tuple[CurvePoint, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
