"""Plain data: results of classifications, keys of weights, and counters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clipcite.types.predictions import Calibration
from core.clip.errors import BadImage
from core.clip.inference.request_rule import RequestKind
from core.errors import ExpectedError
from core.store.db.tables import Model

MAX_IN_FLIGHT = 256
"""Maximum number of images in all requests in progress."""


@dataclass(frozen=True)
class Prediction:
    """A class and its probability for one image."""

    class_name: str
    kind: str
    """`trained` or `new`, for this model."""
    probability: float
    similarity: float


@dataclass
class ImageScores:
    """Result for one image. It has the fields of the response (`clipcite.types.predictions.ImageResult`)."""

    predictions: list[Prediction]
    """The most likely classes, best first."""
    prediction_set: list[str] | None = None
    in_distribution_score: float | None = None
    rejected: bool | None = None
    features: str | None = None


@dataclass(frozen=True)
class Result:
    """Result for all images of a request.

    The response (`clipcite.types.predictions.Classification`) has all fields except `collection`.
    """

    model: str
    preview: bool
    backbone: str
    alpha: float
    rule: RequestKind
    calibration: Calibration
    class_names: list[dict[str, Any]]
    results: list[ImageScores | BadImage]
    """One element per image: its scores, or the reason why it can't be read."""
    timing_ms: dict[str, float]
    warnings: list[dict[str, str]]
    collection: dict[str, Any] = field(default_factory=dict)
    """`method`, `reason`, `suggested` and `groups` of a collection; empty for images."""


class NoReadableImage(ExpectedError):
    """A request without readable images. `problems` has one reason per image."""

    code = "bad_images"
    status = 422

    def __init__(self, problems: Sequence[BadImage]) -> None:
        super().__init__("None of the images can be read. See `errors` for the reasons.")
        self.problems = list(problems)


# --- models in memory ---


@dataclass(frozen=True)
class WeightsKey:
    """Identity of a model's weights, and their stored files."""

    backbone: str
    image_size: int | None = None
    """Image size. None: the backbone's."""
    model_id: str = ""
    """Id of the model. Empty for the pre-trained model, which has no stored files."""
    weights: str = field(default="", compare=False)
    manifest: str = field(default="", compare=False)
    """Blob keys of the two files."""
    sha256: str = field(default="", compare=False)
    """Hash of the weights."""
    bytes: int = field(default=0, compare=False)
    """Size of the weights."""

    @classmethod
    def of(cls, row: Model) -> "WeightsKey":
        return cls(
            row.backbone,
            row.image_size,
            row.id,
            weights=row.weights_key,
            manifest=row.manifest_key,
            sha256=row.sha256,
            bytes=row.bytes,
        )

    @property
    def key(self) -> str:
        """The key as text."""
        return f"{self.model_id}/{self.backbone}/{self.image_size}"

    def at(self, alpha: float) -> str:
        """Return the key of the model at α."""
        return f"{self.key}@{alpha!r}"


@dataclass(frozen=True)
class BatchCounts:
    """Counters of the batcher since its start."""

    batches: dict[str, int]
    """Number of batches, of `images` and of `prompts`."""
    rows: dict[str, int]
    """Number of rows in these batches."""
    busy_seconds: float
    """Compute time, summed over all threads."""
