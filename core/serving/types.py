"""Plain data: results of a classification, keys of weights, and counters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clipcite.wire import predictions as wire
from core.clip.errors import BadImage
from core.clip.inference.request_rule import RequestKind
from core.errors import ClipCiteError
from core.store.db.tables import Model

MAX_IMAGES = 256
"""Maximum number of images of all requests in progress, once per model."""


@dataclass(frozen=True)
class Prediction:
    """A class with its probability for one image."""

    class_name: str
    kind: str
    """`trained` or `new`, for this model."""
    probability: float
    similarity: float


@dataclass
class ImageScores:
    """Result for one image, with fields of the response (`clipcite.wire.predictions.ImageResult`)."""

    predictions: list[Prediction]
    """The most likely classes, best first."""
    prediction_set: list[str] | None = None
    in_distribution_score: float | None = None
    rejected: bool | None = None
    features: str | None = None


@dataclass(frozen=True)
class Result:
    """Result of one model for all images of a request.

    The fields until `timing_ms` are those of the response (`clipcite.wire.predictions.ModelAnswer`).
    """

    model: str
    preview: bool
    backbone: str
    alpha: float
    rule: RequestKind
    calibration: wire.Calibration
    class_names: list[dict[str, Any]]
    results: list[ImageScores | BadImage]
    """One per image, or the reason why it can't be read."""
    timing_ms: dict[str, float]
    warnings: list[dict[str, str]]
    collection: dict[str, Any] = field(default_factory=dict)
    """`method`, `reason` and `suggested` of a collection; empty for images."""


class NoReadableImage(ClipCiteError):
    """A request without a readable image; `problems` holds one reason per image."""

    code = "bad_images"
    status = 422

    def __init__(self, problems: Sequence[BadImage]) -> None:
        super().__init__("None of the images can be read. See errors for the reason of each.")
        self.problems = list(problems)


# --- models in memory ---


@dataclass(frozen=True)
class WeightsKey:
    """Identity of a model's weights, and their stored files."""

    backbone: str
    image_size: int | None = None
    """None is the backbone's own image size."""
    model_id: str = ""
    """Empty for the pre-trained model, which has no stored files."""
    weights: str = field(default="", compare=False)
    manifest: str = field(default="", compare=False)
    """Blob keys of the two files."""
    sha256: str = field(default="", compare=False)
    """Hash of the weights."""
    bytes: int = field(default=0, compare=False)
    """Size of the weights."""

    @classmethod
    def of(cls, row: Model) -> "WeightsKey":
        files = row.weights_key, row.manifest_key, row.sha256, row.bytes
        return cls(row.backbone, row.image_size, row.id, *files)

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

    waiting: dict[str, int]
    """Rows that wait now, by `images` and `prompts`."""
    batches: dict[str, int]
    rows: dict[str, int]
    """Rows of those batches."""
    busy_seconds: float
    """Sum over all threads."""


@dataclass(frozen=True)
class Preparing:
    """Current step of the preparation of the default backbone."""

    what: str
    """The step, for a person: "Downloading ViT-B-16/openai"."""
    done_bytes: int | None = None
    total_bytes: int | None = None
    """Progress of a download; None for other steps, and until the size is known."""
